"""Boxes, bars and arrows of a diagram, as SVG: text stays text, and the same diagram is the same file."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from strata.loadtest.themes import Theme


def drawing(width: int, height: int, label: str, parts: Iterable[str], theme: Theme) -> str:
    """The whole file; ``label`` is what a screen reader says."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}" role="img" aria-label="{escape(label)}" font-family="sans-serif" font-size="13">',
            f'<rect width="{width}" height="{height}" fill="{theme.paper}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def box(x: float, y: float, width: float, height: float, *, stroke: str, fill: str) -> str:
    """A rectangle by its upper left corner."""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{min(6, height / 4):.1f}" '
        f'fill="{fill}" stroke="{stroke}"/>'
    )


def text(x: float, y: float, words: str, *, fill: str, anchor: str = "middle", size: int = 13) -> str:
    """Words whose line is centred on ``y``; ``anchor`` says which of their ends, or the middle, is at ``x``."""
    return (
        f'<text x="{x:.1f}" y="{y + size * 0.35:.1f}" text-anchor="{anchor}" fill="{fill}" font-size="{size}">'
        f"{escape(words)}</text>"
    )


def line(path: str, stroke: str, *, faint: bool = False) -> str:
    """A line along an SVG path."""
    opacity = ' stroke-opacity="0.55"' if faint else ""
    return f'<path d="{path}" fill="none" stroke="{stroke}"{opacity}/>'


def arrow(x1: float, y1: float, x2: float, y2: float, stroke: str) -> str:
    """A straight line from left to right, with a head at its end."""
    head = f"M{x2 - 6:.1f} {y2 - 4:.1f}L{x2:.1f} {y2:.1f}L{x2 - 6:.1f} {y2 + 4:.1f}"
    return line(f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}{head}", stroke)
