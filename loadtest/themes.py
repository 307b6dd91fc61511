"""The colours of pictures, light and dark, as the explorer has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Theme:
    """Colours of one theme; ``suffix`` ends the names of its files."""

    suffix: str
    ink: str
    paper: str
    line: str
    own: str
    warm: str


THEMES = (
    Theme("", "#1b1f24", "#fbfaf7", "#d9d6cd", "#0b6e6e", "#b3541e"),
    Theme("-dark", "#e8e6e1", "#14171a", "#33383d", "#4fb8b0", "#e08a4f"),
)
