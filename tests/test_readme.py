"""The README says what is there."""

from __future__ import annotations

import json
import re
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


def test_short_and_small_vectors_are_worth_what_the_manifest_says() -> None:
    manifest = read_manifest(find(DEFAULT))
    quality, layers, full = manifest.quality, manifest.exits[-1], manifest.full_dim
    assert quality is not None
    told = re.search(
        r"Of search at full depth, 256 dims keep (\S+) %, 128 (\S+) % and 64 (\S+) %\. "
        r"Vectors of int8 keep (\S+) %, of single bits (\S+) %\.",
        README,
    )
    assert told is not None
    asked = ((256, "float"), (128, "float"), (64, "float"), (full, "int8"), (full, "binary"))
    for figure, (dim, kind) in zip(told.groups(), asked, strict=True):
        worth = quality.worth("search", layers, dim, output_type=kind)
        assert worth is not None
        assert figure == f"{100 * worth.share:.1f}"


def test_the_worst_set_is_told_beside_the_mean() -> None:
    """The README's cells are the card's own."""
    (columns, *rows), (names, *others) = _table(README), _table((find(DEFAULT) / CARD).read_text())
    there = {row[0]: dict(zip(names, row, strict=True)) for row in others}
    assert sum("worst set" in column for column in columns) == 2
    for row in rows:
        for column, cell in zip(columns, row, strict=True):
            assert column == "ms" or there[row[0]][column] == cell, f"{row[0]} layers, {column}"


def _table(text: str) -> list[list[str]]:
    """The first table by layers, without the line under its head."""
    lines = text[text.index("| layers |") :].split("\n\n")[0].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [table[0], *table[2:]]


def test_the_bundle_lists_what_it_was_trained_on() -> None:
    manifest = read_manifest(find(DEFAULT))
    assert manifest.provenance.licence == "MIT"
    assert manifest.provenance.data
    assert manifest.elastic
    assert json.loads((find(DEFAULT) / "config.json").read_text())["num_hidden_layers"] == manifest.exits[-1]


def test_what_types_of_numbers_cost_is_what_the_manifest_says() -> None:
    text = (Path(__file__).parents[1] / "app" / "docs" / "choosing.md").read_text()
    manifest = read_manifest(find(DEFAULT))
    quality = manifest.quality
    assert quality is not None
    rows = re.findall(r"(?m)^\| (int8|binary) \| (\d+) \| (\S+) to (\S+) \| (\S+) to (\S+) \|$", text)
    assert len(rows) == 4
    for kind, dim, *told in rows:
        lost = []
        for task in ("similarity", "search"):
            points = []
            for layers in manifest.exits:
                as_float = quality.worth(task, layers, int(dim))
                as_told = quality.worth(task, layers, int(dim), output_type=kind)
                assert as_float is not None
                assert as_told is not None
                points.append(100 * (as_float.share - as_told.share))
            lost += [min(points), max(points)]
        assert [float(figure) for figure in told] == pytest.approx(lost, abs=0.051), (kind, dim)
