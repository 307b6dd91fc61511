"""The rooms and what they import, drawn from the code. Each room stands above those it imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import strata
from strata.loadtest import svg
from strata.loadtest.themes import Theme

TOPS = ("app", "loadtest", "model_store")

_ROOT = Path(strata.__file__).parent
_BOX, _HIGH, _GAP, _ROW, _EDGE = 150, 34, 14, 66, 24  # pixels

Rooms = dict[str, frozenset[str]]  # room -> the rooms it imports


def imports() -> Iterator[tuple[str, str]]:
    """(module, module or name it imports), of everything that is shipped; the module without "strata."."""
    for top in TOPS:
        for file in sorted((_ROOT / top).rglob("*.py")):
            module = ".".join(file.relative_to(_ROOT).with_suffix("").parts).removesuffix(".__init__")
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [f"{'.' * node.level}{node.module}.{alias.name}" for alias in node.names]
                else:
                    continue
                yield from ((module, name) for name in names)


def own_imports() -> Iterator[tuple[str, str]]:
    """Those of Strata's own modules and names, likewise without "strata."."""
    return ((module, name.removeprefix("strata.")) for module, name in imports() if name.startswith("strata."))


def rooms_of(found: Iterator[tuple[str, str]]) -> Rooms:
    """Rooms are the folders in a top folder, and loadtest.

    A file beside the folders is no room: what it imports counts for who imports it. Files that no room imports are the
    way in, and stand together under the name of the top folder.
    """
    nodes: dict[str, set[str]] = {}
    for module, name in found:
        one, other = _node(module), _node(name)
        if other is not None and one is not None and one != other:
            nodes.setdefault(one, set()).add(other)
            nodes.setdefault(other, set())
    folders = {node for node in nodes if _is_room(node)} | {
        _node(".".join(path.parent.relative_to(_ROOT).parts)) or ""
        for top in TOPS
        for path in (_ROOT / top).glob("*/__init__.py")
    }

    def reached(node: str, seen: set[str]) -> set[str]:
        """The rooms a node imports, itself or through files."""
        found = set()
        for other in nodes.get(node, set()) - seen:
            seen.add(other)
            found |= {other} if other in folders else reached(other, seen)
        return found - {node}

    rooms = {room: frozenset(reached(room, set())) for room in folders}
    behind: set[str] = set()  # files that some room imports, directly or through others
    for room in folders:
        reached(room, behind)
    for top in TOPS:
        ways_in = [node for node in nodes if node.startswith(f"{top}.") and node not in folders | behind]
        led_to = frozenset(other for node in ways_in for other in reached(node, set()))
        if led_to:
            rooms[top] = led_to
    return rooms


def _node(name: str) -> str | None:
    """The folder or file in a top folder that a module or name lies in."""
    top, *rest = name.split(".")
    if top not in TOPS or not rest:
        return None
    return top if top == "loadtest" else f"{top}.{rest[0]}"


def _is_room(node: str) -> bool:
    return node == "loadtest" or (_ROOT / node.replace(".", "/")).is_dir()


def shortened(rooms: Rooms) -> Rooms:
    """Without the arrows that say nothing new: from a room to one that another of its arrows leads to."""

    @cache
    def below(room: str) -> frozenset[str]:
        return rooms[room].union(*map(below, rooms[room]))

    return {room: others - frozenset().union(*map(below, others)) for room, others in sorted(rooms.items())}


def picture(rooms: Mapping[str, frozenset[str]], theme: Theme) -> str:
    """An SVG of boxes and lines, each box right above the first of those it leads to."""
    rows: dict[int, list[str]] = {}
    for room, height in _heights(rooms).items():
        rows.setdefault(height, []).append(room)
    wide = max(map(len, rows.values())) * (_BOX + _GAP) - _GAP + 2 * _EDGE
    high = (max(rows) + 1) * _ROW - (_ROW - _HIGH) + 2 * _EDGE
    centres: dict[str, tuple[float, float]] = {}
    for height, row in rows.items():
        step = (wide - 2 * _EDGE) / len(row)
        for number, room in enumerate(row):
            centres[room] = (_EDGE + step * (number + 0.5), high - _EDGE - _HIGH / 2 - height * _ROW)
    colours = {"app": theme.own, "model_store": theme.warm, "loadtest": theme.ink}
    parts = []
    for room, others in rooms.items():
        for other in sorted(others):
            (x1, y1), (x2, y2) = centres[room], centres[other]
            start, end = y1 + _HIGH / 2, y2 - _HIGH / 2
            bend = (start + end) / 2
            path = f"M{x1:.1f} {start:.1f}C{x1:.1f} {bend:.1f} {x2:.1f} {bend:.1f} {x2:.1f} {end:.1f}"
            parts.append(svg.line(path, colours[room.split(".")[0]], faint=True))
    for room, (x, y) in centres.items():
        stroke = colours[room.split(".")[0]]
        parts.append(svg.box(x - _BOX / 2, y - _HIGH / 2, _BOX, _HIGH, stroke=stroke, fill=theme.paper))
        parts.append(svg.text(x, y, room.replace(".", "/"), fill=theme.ink))
    return svg.drawing(wide, high, "The rooms, each above those it imports", parts, theme)


def _heights(rooms: Mapping[str, frozenset[str]]) -> dict[str, int]:
    """The row of each room, from below: right under the lowest of those that import it, else as low as it can be."""

    def least(room: str) -> int:
        return 1 + max(map(least, rooms[room]), default=-1)

    highest = max(map(least, rooms))
    heights: dict[str, int] = {}
    for room in sorted(rooms, key=lambda room: (-least(room), room)):  # importers come first
        above = [heights[other] for other in rooms if room in rooms[other]]
        alone = not above and not rooms[room]
        heights[room] = min(above) - 1 if above else highest if alone else least(room)
    return {room: heights[room] for room in sorted(rooms)}
