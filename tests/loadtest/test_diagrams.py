"""The diagrams of the guides: what that of the rooms leaves out, and that those shipped are as they are drawn now."""

from __future__ import annotations

from pathlib import Path

from strata.loadtest.diagrams import diagrams
from strata.loadtest.rooms import rooms_of, shortened
from strata.loadtest.themes import THEMES
from strata.model_store.bundle.bundle import read_manifest
from strata.model_store.bundle.registry import DEFAULT, find

DOCS = Path(__file__).parents[2] / "app" / "docs"


def test_a_file_between_two_rooms_is_passed_through_and_what_follows_is_left_out() -> None:
    found = [
        ("app.main", "app.api.embed"),
        ("app.api.embed", "app.service.Service"),
        ("app.service", "app.engine.pool"),
        ("app.api.embed", "model_store.bundle.manifest"),
        ("app.engine.pool", "model_store.bundle.bundle.Bundle"),
    ]
    rooms = rooms_of(iter(found))
    assert rooms["app"] == {"app.api"}
    assert rooms["app.api"] == {"app.engine", "model_store.bundle"}
    assert shortened(rooms)["app.api"] == {"app.engine"}


def test_the_diagrams_in_the_guides_are_those_of_the_code_and_of_the_default_model() -> None:
    for name, draw in diagrams(read_manifest(find(DEFAULT))).items():
        for theme in THEMES:
            assert (DOCS / f"{name}{theme.suffix}.svg").read_text(encoding="utf-8") == draw(theme), (
                "draw them anew: strata loadtest diagrams --out app/docs"
            )
