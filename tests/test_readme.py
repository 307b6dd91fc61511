"""The README says what is there."""

from __future__ import annotations

import json
from pathlib import Path

from strata.model_store.bundle.bundle import read_manifest
from strata.model_store.bundle.registry import DEFAULT, find

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_quality_table_is_the_manifests() -> None:
    quality = read_manifest(find(DEFAULT)).quality
    assert quality is not None
    for layers, row in quality.scores.items():
        line = next(text for text in README.splitlines() if text.startswith(f"| {layers} |"))
        cells = [cell.split()[0] for cell in line.split("|")[2:-1]]
        assert cells == [f"{row[dim]:.1f}" for dim in sorted(row)], f"{layers} layers"


def test_the_bundle_lists_what_it_was_trained_on() -> None:
    manifest = read_manifest(find(DEFAULT))
    assert manifest.provenance.licence == "MIT"
    assert manifest.provenance.data
    assert manifest.elastic
    assert json.loads((find(DEFAULT) / "config.json").read_text())["num_hidden_layers"] == manifest.exits[-1]
