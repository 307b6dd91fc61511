"""The house: one import name, and a room imports only rooms below it."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

import pytest

from strata.loadtest.rooms import TOPS, imports, own_imports

# What brings a request to the rooms below.
FRONT = ("app.api", "app.lifecycle", "app.served", "app.tiers", "app.settings")

# Room -> what it never imports, by the beginning of the name (without "strata.").
NEVER = {
    "app": (
        "loadtest",
        "model_store.encoding",
        "model_store.importing",
        "model_store.profiling",
        "model_store.training",
    ),
    "app.connections": (
        "app.api",
        "app.lifecycle",
        "app.served",
        "app.tiers",
        "app.planning",
        "app.scheduling",
        "app.engine",
    ),
    "app.telemetry": (*FRONT, "app.connections", "app.scheduling"),
    "app.callers": (
        *FRONT,
        "app.planning",
        "app.scheduling",
        "app.engine",
    ),
    "app.planning": ("app.scheduling", *FRONT),
    "app.scheduling": FRONT,
    "app.engine": (
        *FRONT,
        "app.callers",
        "app.planning",
        "app.scheduling",
    ),
    "model_store": ("app", "loadtest"),
    "model_store.bundle": ("model_store.encoding", "model_store.importing"),
    "model_store.encoding": ("model_store.importing", "model_store.profiling", "model_store.training"),
    "model_store.importing": ("model_store.profiling", "model_store.training"),
    "model_store.profiling": ("model_store.training",),
}


def below(name: str, room: str) -> bool:
    """Whether a module or name lies in a room."""
    return name == room or name.startswith(room + ".")


def test_imports_are_absolute_and_by_the_one_name() -> None:
    wrong = [(module, name) for module, name in imports() if name.split(".")[0] in ("", *TOPS, "tests")]
    assert not wrong


def test_nothing_is_imported_that_lies_above() -> None:
    found = list(own_imports())
    assert len(found) > 500, "the imports were not found"
    wrong = [
        f"{module} imports {name}"
        for module, name in found
        for room, never in NEVER.items()
        if below(module, room) and any(below(name, other) for other in never)
    ]
    assert not wrong


@pytest.mark.parametrize("top", TOPS)
def test_rooms_do_not_go_round_in_circles(top: str) -> None:
    """Rooms are the folders of a top folder, and the files beside them."""

    def room(name: str) -> str:
        return name.split(".")[1]

    graph: dict[str, set[str]] = {}
    for module, name in own_imports():
        if below(module, top) and below(name, top) and "." in module and "." in name and room(module) != room(name):
            graph.setdefault(room(module), set()).add(room(name))
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"{top}: {' <- '.join(error.args[1])}")
