"""Who wants to know how far long work has come is told so many bytes at a time."""

from __future__ import annotations

from collections.abc import Callable

Watch = Callable[[int], None]


def unwatched(size: int) -> None:
    """Nobody looks."""
