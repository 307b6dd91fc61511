"""The house: one import name, and a room imports only rooms below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("app", "model_store", "loadtest")

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


def imports() -> Iterator[tuple[str, str]]:
    """(module, module or name it imports), of everything that is shipped, without "strata."."""
    for top in TOPS:
        for file in (ROOT / top).rglob("*.py"):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                for name in _imported(node):
                    yield module, name


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return []
    assert not [name for name in names if name.split(".")[0] in (*TOPS, "tests")], f"not by the one name: {names}"
    return [name.removeprefix("strata.") for name in names if name.startswith("strata.")]


def below(name: str, room: str) -> bool:
    """Whether a module or name lies in a room."""
    return name == room or name.startswith(room + ".")


def test_nothing_is_imported_that_lies_above() -> None:
    found = list(imports())
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
    for module, name in imports():
        if below(module, top) and below(name, top) and "." in module and "." in name and room(module) != room(name):
            graph.setdefault(room(module), set()).add(room(name))
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"{top}: {' <- '.join(error.args[1])}")
