"""Load, latency, depth and attainment over time, as SVG that takes the colours of the page around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from strata.loadtest.outcomes import Mask, Numbers, Requests

# Okabe and Ito's, for all eyes, less the black that a dark page would swallow, and with a lighter blue.
_COLOURS = ("#2F8AC8", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
_OUTCOMES = ("#009E73", "#E69F00", "#999999", "#D55E00")
_BIN_S = 1.0
_DPI = 110  # of the points, which are too many to be drawn one by one
_INK = "#010203"  # stands for the page's own ink, until the drawing is done
_LEGEND: dict[str, Any] = {"frameon": False, "labelcolor": _INK}


def draw_over_time(policies: Mapping[str, Requests], seconds: float) -> str:
    """All policies in one picture: each panel a measure, each line a policy."""
    figure, (load, latency, depth, attained) = _panels(4)
    edges = _edges(seconds)
    load.stairs(_rates(next(iter(policies.values())), edges), edges, fill=True, color=_INK, alpha=0.3)
    load.set_ylabel("offered, texts/s")
    for colour, (name, requests) in zip(_colours(len(policies)), policies.items(), strict=True):
        answered = requests.status == 200
        for axes, values in (
            (latency, _binned(requests, requests.latency * 1e3, answered, edges, 95)),
            (depth, _binned(requests, requests.layers, answered, edges)),
            (attained, _binned(requests, requests.in_time * 100.0, answered | ~answered, edges)),
        ):
            axes.stairs(values, edges, baseline=None, color=colour, linewidth=1.2, label=name)
    latency.set(ylabel="p95 of a second, ms", yscale="log")
    depth.set(ylabel="mean layers", ylim=(0, None))
    attained.set(ylabel="in time, % of offered", ylim=(-3, 103), xlabel="s")
    figure.legend(*depth.get_legend_handles_labels(), loc="outside upper center", ncols=len(policies), **_LEGEND)
    return _svg(figure)


def draw_policy(name: str, requests: Requests, tiers: Sequence[str], seconds: float) -> str:
    """One policy: what became of the load, and every tier's latency against its deadline, depth and attainment."""
    figure, (load, latency, depth, attained) = _panels(4)
    edges = _edges(seconds)
    in_time, refused = requests.in_time, requests.refused
    late = (requests.status == 200) & ~in_time
    parts = {"in time": in_time, "late": late, "refused": refused, "failed": ~(in_time | late | refused)}
    below = np.zeros(len(edges) - 1)
    for colour, (label, part) in zip(_OUTCOMES, parts.items(), strict=True):
        above = below + _rates(requests.where(part), edges)
        load.stairs(above, edges, baseline=below, fill=True, color=colour, label=label)
        below = above
    for colour, (number, tier) in zip(_colours(len(tiers)), enumerate(tiers), strict=True):
        mine = requests.tier == number
        answered = mine & (requests.status == 200)
        latency.plot(
            requests.due[answered], requests.latency[answered] * 1e3, ".", markersize=2, color=colour, rasterized=True
        )
        for deadline in np.unique(requests.deadline[mine]):
            latency.axhline(deadline * 1e3, color=colour, linestyle="--", linewidth=0.8)
        for axes, values in (
            (depth, _binned(requests, requests.layers, answered, edges)),
            (attained, _binned(requests, in_time * 100.0, mine, edges)),
        ):
            axes.stairs(values, edges, baseline=None, color=colour, linewidth=1.2, label=tier)
    load.set(ylabel="texts/s, by arrival", title=name)
    load.legend(ncols=len(parts), fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), **_LEGEND)
    latency.set(ylabel="latency, ms (-- deadline)", yscale="log")
    depth.set(ylabel="mean layers", ylim=(0, None))
    attained.set(ylabel="in time, % of offered", ylim=(-3, 103), xlabel="s")
    figure.legend(*depth.get_legend_handles_labels(), loc="outside upper center", ncols=len(tiers), **_LEGEND)
    return _svg(figure)


def over_time(requests: Requests, seconds: float) -> dict[str, list[float | None]]:
    """By second of arrival: texts offered a second, mean layers run, share in time; None where nothing came."""
    edges = _edges(seconds)
    answered = requests.status == 200
    series = {
        "offered": _rates(requests, edges),
        "layers": _binned(requests, requests.layers, answered, edges),
        "in_time": _binned(requests, requests.in_time * 1.0, answered | ~answered, edges),
    }
    return {name: [None if np.isnan(v) else round(float(v), 4) for v in values] for name, values in series.items()}


def _panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    with rc_context(
        {
            "text.color": _INK,
            "axes.labelcolor": _INK,
            "axes.edgecolor": _INK,
            "axes.titlecolor": _INK,
            "xtick.color": _INK,
            "ytick.color": _INK,
        }
    ):
        figure = Figure(figsize=(11, 2.3 * count), layout="constrained")
        panels: Sequence[Axes] = figure.subplots(count, 1, sharex=True)
    for axes in panels:
        axes.grid(alpha=0.15, color=_INK)
        axes.margins(x=0)
    return figure, panels


def _svg(figure: Figure) -> str:
    """The drawing without a ground, its words as text, its lines in the ink of the page."""
    drawn = StringIO()
    with rc_context({"svg.fonttype": "none", "text.color": _INK}):
        figure.savefig(drawn, format="svg", dpi=_DPI, transparent=True)
    svg = drawn.getvalue()
    return svg[svg.index("<svg") :].replace(_INK, "currentColor").replace("font: ", "font-family: inherit; font: ")


def _colours(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]


def _edges(seconds: float) -> Numbers:
    edges: Numbers = np.minimum(np.arange(int(np.ceil(seconds / _BIN_S)) + 1) * _BIN_S, seconds)
    return edges


def _rates(requests: Requests, edges: Numbers) -> Numbers:
    counts: Numbers = np.histogram(requests.due, edges)[0] / np.diff(edges)
    return counts


def _binned(
    requests: Requests, values: Numbers, chosen: Mask, edges: Numbers, percentile: float | None = None
) -> Numbers:
    """Mean, or a percentile, of the chosen values that were due in each bin; NaN in a bin without any."""
    bins, picked = np.digitize(requests.due[chosen], edges[1:-1]), values[chosen]
    found = np.full(len(edges) - 1, np.nan)
    for place in np.unique(bins):
        inside = picked[bins == place]
        found[place] = inside.mean() if percentile is None else np.percentile(inside, percentile)
    return found
