"""The README says what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strata.model_store.bundle.bundle import read_manifest
from strata.model_store.bundle.manifest import CARD
from strata.model_store.bundle.quality import Side
from strata.model_store.bundle.registry import DEFAULT, find
from tests.share_tables import shares_told

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_shares_are_the_manifests_in_readme_and_card() -> None:
    """Tables `| layers | similarity | search | queries on full-depth documents | ... |`, wherever they are."""
    folder = find(DEFAULT)
    manifest = read_manifest(folder)
    quality = manifest.quality
    assert quality is not None
    card = shares_told((folder / CARD).read_text())
    assert set(card) >= set(manifest.exits)
    tables: dict[str, tuple[str, Side]] = {
        "similarity": ("similarity", "alike"),
        "search": ("search", "alike"),
        "queries on full-depth documents": ("search", "queries"),
    }
    for told in (card, shares_told(README)):
        for layers, row in told.items():
            for name, percentage in row.items():
                task, side = tables[name]
                worth = quality.worth(task, layers, manifest.full_dim, side)
                assert worth is not None, f"{layers} layers, {name}"
                assert percentage == pytest.approx(100 * worth.share, abs=0.051), f"{layers} layers, {name}"


def test_the_bundle_lists_what_it_was_trained_on() -> None:
    manifest = read_manifest(find(DEFAULT))
    assert manifest.provenance.licence == "MIT"
    assert manifest.provenance.data
    assert manifest.elastic
    assert json.loads((find(DEFAULT) / "config.json").read_text())["num_hidden_layers"] == manifest.exits[-1]
