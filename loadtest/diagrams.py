"""The diagrams of the guides, made of what they show: the code's imports, and a bundle's layers, exits and dims."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

from strata.loadtest import rooms, svg
from strata.loadtest.figures import Figure
from strata.loadtest.report import Report
from strata.loadtest.themes import THEMES, Theme
from strata.model_store.bundle.bundle import read_manifest
from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.registry import DEFAULT, find

_LAYER, _WIDE = 15, 150  # pixels: from one layer to the next, and the width of one


async def measure(args: argparse.Namespace, report: Report) -> list[Figure]:
    """Write every diagram, light and dark."""
    args.out.mkdir(parents=True, exist_ok=True)
    drawn = diagrams(read_manifest(find(args.model or DEFAULT)))
    for name, draw in drawn.items():
        for theme in THEMES:
            (args.out / f"{name}{theme.suffix}.svg").write_text(draw(theme), encoding="utf-8")
    report.tell(f"{', '.join(drawn)}: in {args.out}")
    return [Figure("diagrams", len(drawn))]


def diagrams(manifest: Manifest) -> dict[str, Callable[[Theme], str]]:
    """Name of a file -> what draws it in a theme."""
    houses = rooms.shortened(rooms.rooms_of(rooms.own_imports()))
    return {
        "rooms": lambda theme: rooms.picture(houses, theme),
        "exits": lambda theme: exits_picture(manifest, theme),
        "roles": lambda theme: roles_picture(manifest, theme),
    }


def exits_picture(manifest: Manifest, theme: Theme) -> str:
    """One text that leaves half-way up, and the lengths its vector may be cut to."""
    layers, dims = manifest.architecture.layers, manifest.dims
    left = half(manifest)
    bottom = 40 + layers * _LAYER
    high = bottom + 50

    def parts() -> Iterator[str]:
        yield from _stack(40, bottom, layers, left, theme)
        yield svg.text(40 + _WIDE / 2, bottom + 26, "a text comes in below", fill=theme.ink)
        y = _middle(bottom, left)
        yield svg.arrow(40 + _WIDE + 4, y, 300, y, theme.own)
        yield svg.text(246, y - 14, f"leaves at {left}", fill=theme.own)
        yield svg.text(310, y - 26, f"its vector: {manifest.full_dim} numbers", fill=theme.ink, anchor="start")
        whole = 320.0
        yield svg.box(310, y - 8, whole, 16, stroke=theme.own, fill=theme.paper)
        for dim in dims[:-1]:
            x = 310 + whole * dim / manifest.full_dim
            yield svg.line(f"M{x:.1f} {y - 8:.1f}V{y + 14:.1f}", theme.own)
            yield svg.text(x, y + 24, str(dim), fill=theme.ink)
        yield svg.text(310, y + 50, "or only its beginning, cut at any of these", fill=theme.ink, anchor="start")
        for exit_ in (layers, 1):
            y = _middle(bottom, exit_)
            yield svg.arrow(40 + _WIDE + 4, y, 225, y, theme.warm)
            words = "may leave at any layer" if exit_ == 1 else "nothing said: runs all of them"
            yield svg.text(233, y, words, fill=theme.ink, anchor="start")

    label = f"A stack of {layers} layers; a text leaves after layer {left}, and its vector may be cut"
    return svg.drawing(660, high, label, parts(), theme)


def roles_picture(manifest: Manifest, theme: Theme) -> str:
    """Documents at one depth, queries at three, and the index where they meet."""
    layers = manifest.architecture.layers
    bottom = 60 + layers * _LAYER
    high = bottom + 50
    middle = (60 + bottom) / 2

    def parts() -> Iterator[str]:
        yield svg.text(40 + _WIDE / 2, 30, "documents: pinned to full depth", fill=theme.ink)
        yield from _stack(40, bottom, layers, layers, theme)
        yield svg.arrow(40 + _WIDE + 4, _middle(bottom, layers), 258, middle - 20, theme.own)
        yield svg.box(262, middle - 40, 136, 80, stroke=theme.ink, fill=theme.paper)
        yield svg.text(330, middle - 12, "one index", fill=theme.ink)
        yield svg.text(330, middle + 10, f"space: {layers} layers", fill=theme.ink)
        yield svg.text(470 + _WIDE / 2, 30, "queries: each as deep as it can", fill=theme.ink)
        yield from _stack(470, bottom, layers, layers, theme, filled=False)
        for exit_ in (layers, half(manifest), 1):
            y = _middle(bottom, exit_)
            yield svg.box(470, y - 5, _WIDE, 10, stroke=theme.warm, fill=theme.warm)
            aim = middle + (y - middle) * 0.3
            yield svg.line(f"M444 {y:.1f}L402 {aim:.1f}m6 -4L402 {aim:.1f}l6 4", theme.warm)
        yield svg.text(330, bottom + 26, "scores of one query are compared with one another only", fill=theme.ink)

    label = "Documents at full depth lie in one index, which queries of any depth are searched in"
    return svg.drawing(660, high, label, parts(), theme)


def half(manifest: Manifest) -> int:
    """The exit nearest to half of the layers."""
    return min(manifest.exits, key=lambda exit_: abs(exit_ - manifest.architecture.layers / 2))


def _stack(x: float, bottom: float, layers: int, run: int, theme: Theme, *, filled: bool = True) -> Iterator[str]:
    """Layers from below; those up to ``run`` are run."""
    for layer in range(1, layers + 1):
        fill = theme.own if filled and layer <= run else theme.line
        yield svg.box(x, _middle(bottom, layer) - 5, _WIDE, 10, stroke=fill, fill=fill)
        yield svg.text(x - 8, _middle(bottom, layer), str(layer), fill=theme.ink, anchor="end", size=11)


def _middle(bottom: float, layer: int) -> float:
    return bottom - layer * _LAYER + _LAYER / 2
