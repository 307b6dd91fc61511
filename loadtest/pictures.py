"""The pictures of README and guides, from measured data: each as SVG, light and dark."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure as Canvas

from strata.app.engine.options import EngineOptions
from strata.loadtest.figures import Figure
from strata.loadtest.policies import ELASTIC
from strata.loadtest.profile.latency import measure_latency
from strata.loadtest.report import Report
from strata.loadtest.themes import THEMES, Theme
from strata.model_store.bundle.bundle import Bundle
from strata.model_store.bundle.quality import SEARCH, SIMILARITY, Side
from strata.model_store.bundle.registry import DEFAULT, find

_TOKENS = 32  # of the text that is timed: a sentence


async def measure(args: argparse.Namespace, report: Report) -> list[Figure]:
    """Draw ``depth`` from the bundle and this machine, and ``load`` from the report of `strata loadtest slo`."""
    args.out.mkdir(parents=True, exist_ok=True)
    bundle = Bundle.open(find(args.model or DEFAULT), checksums=False)
    profile = await measure_latency(bundle, EngineOptions(), (1,), (_TOKENS,))
    spent = {timing.layers: timing.seconds * 1000 for timing in profile.timings}
    report.facts["engine"] = f"{profile.backend} {profile.dtype} on {profile.machine}"
    _save(args.out, "depth", lambda theme: depth_picture(bundle, spent, theme))
    if args.load:
        told = json.loads(args.load.read_text(encoding="utf-8"))
        capacity = float(told["facts"]["capacity of full depth"].split()[0])  # "98.5 texts/s"
        series = told["rounds"]["over_time"][ELASTIC]
        _save(args.out, "load", lambda theme: load_picture(series, capacity, theme))
    full = max(spent)
    return [Figure(f"one text of {_TOKENS} tokens at {e} layers, ms", ms) for e, ms in spent.items() if e in (1, full)]


def _save(folder: Path, name: str, draw: Callable[[Theme], Canvas]) -> None:
    for theme in THEMES:
        with rc_context(
            {
                "text.color": theme.ink,
                "axes.labelcolor": theme.ink,
                "axes.edgecolor": theme.line,
                "axes.facecolor": theme.paper,
                "figure.facecolor": theme.paper,
                "xtick.color": theme.ink,
                "ytick.color": theme.ink,
                "grid.color": theme.line,
                # Text stays text; no date and no random ids, so that the same data makes the same file.
                "svg.fonttype": "none",
                "svg.hashsalt": name,
                "font.family": "sans-serif",
                "font.size": 10,
            }
        ):
            draw(theme).savefig(folder / f"{name}{theme.suffix}.svg", metadata={"Date": None})


def depth_picture(bundle: Bundle, spent: dict[int, float], theme: Theme) -> Canvas:
    """The stack with its exits, and what each is worth over what it takes. ``spent``: milliseconds by exit."""
    quality = bundle.manifest.quality
    assert quality is not None, "the bundle has no measured quality: run strata profile"
    canvas = Canvas(figsize=(8.6, 3.6), layout="constrained")
    stack, curve = canvas.subplots(1, 2, width_ratios=(1, 3.2))
    exits = sorted(spent)
    stack.barh(exits, [1] * len(exits), height=0.72, color=theme.line)
    stack.barh([e for e in exits if e <= 6], 1, height=0.72, color=theme.own)
    for layers in exits:
        stack.text(1.06, layers, f"{spent[layers]:.1f} ms", va="center")
    stack.set(xlim=(0, 1.5), yticks=exits, xticks=[], title="leave after any layer")
    stack.spines[:].set_visible(False)
    stack.tick_params(length=0)
    dim = bundle.manifest.full_dim
    kinds: tuple[tuple[str, Side, str, str], ...] = (
        (SIMILARITY, "alike", "similarity", theme.own),
        (SEARCH, "queries", "search: queries at this depth, documents at full depth", theme.warm),
    )
    highest: dict[int, float] = {}  # where the number of an exit stands: over the higher of the curves
    for task, side, label, colour in kinds:
        worth = {e: w for e in exits if (w := quality.worth(task, e, dim, side)) is not None}
        if not worth:
            continue
        curve.plot([spent[e] for e in worth], [100 * w.share for w in worth.values()], "o-", color=colour, label=label)
        for e in {1, 3, 6, exits[-1]} & set(worth):
            highest[e] = max(highest.get(e, 0.0), 100 * worth[e].share)
    for e, share in sorted(highest.items()):
        curve.annotate(str(e), (spent[e], share), (0, 7), textcoords="offset points", ha="center")
    curve.set(xlabel=f"ms for one text of {_TOKENS} tokens", ylabel="quality kept, %", title="what a layer is worth")
    curve.set_ylim(top=102.5)
    _finish(curve, theme)
    return canvas


def load_picture(series: dict[str, list[float | None]], capacity: float, theme: Theme) -> Canvas:
    """Depth against load. ``series``: by second, texts offered and mean layers; ``capacity``: texts/s at full depth."""
    seconds = range(len(series["offered"]))
    offered, layers = ([np.nan if v is None else v for v in series[name]] for name in ("offered", "layers"))
    canvas = Canvas(figsize=(8.6, 3.2), layout="constrained")
    load, depth = canvas.subplots(2, 1, sharex=True)
    load.fill_between(seconds, np.array(offered) / capacity, color=theme.line, step="mid")
    load.set(ylabel="load", title="load, in multiples of what full depth carries, and the mean depth it got")
    depth.step(seconds, layers, where="mid", color=theme.own)
    depth.set(ylabel="layers", xlabel="seconds", ylim=(0, 12.9), yticks=(0, 3, 6, 9, 12))
    for axes in (load, depth):
        _finish(axes, theme)
    return canvas


def _finish(axes: Any, theme: Theme) -> None:
    axes.grid(alpha=0.6, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.title.set_fontsize(10)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="lower right", labelcolor=theme.ink)
