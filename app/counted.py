"""Numbers of things, in words."""

from __future__ import annotations


def counted(count: int | str, noun: str) -> str:
    """A number and what it is of: "1 layer", "2 layers". ``count`` may be several, listed: "1, 2 layers"."""
    return f"{count} {noun}" if str(count) == "1" else f"{count} {noun}s"
