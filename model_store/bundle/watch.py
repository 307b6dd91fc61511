"""A callback for progress: long work calls it with the bytes it has read or written since the last call."""

from __future__ import annotations

from collections.abc import Callable

Watch = Callable[[int], None]


def unwatched(size: int) -> None:
    """The callback where nobody looks."""
