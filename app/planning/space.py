"""The vector space id: model, revision, depth and length as one short string. Vectors compare where their ids agree."""

from __future__ import annotations

import re

_SPACE = re.compile(r"(?P<model>.+)/(?P<layers>[1-9][0-9]{0,2})x(?P<dim>[1-9][0-9]{0,4})", re.DOTALL)


def space_id(model: str, layers: int, dim: int) -> str:
    """E.g. ``gte@3f2a90c1d4e5/6x256``; ``model`` is name and revision."""
    return f"{model}/{layers}x{dim}"


def parse_space(space: str) -> tuple[str, int, int] | None:
    """(model, layers, dim) of an id, or None if it is none."""
    found = _SPACE.fullmatch(space)
    return (found["model"], int(found["layers"]), int(found["dim"])) if found else None
