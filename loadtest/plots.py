"""Load, latency, depth and attainment over time, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from strata.loadtest.outcomes import Mask, Numbers, Requests

_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#000000",
)  # Okabe and Ito's, for all eyes
_OUTCOMES = ("#009E73", "#E69F00", "0.6", "#D55E00")
_BIN_S = 1.0
_DPI = 110


def draw_over_time(policies: Mapping[str, Requests], seconds: float, file: Path) -> None:
    """All policies in one picture: each panel a measure, each line a policy."""
    figure, (load, latency, depth, attained) = _panels(4)
    edges = _edges(seconds)
    load.stairs(_rates(next(iter(policies.values())), edges), edges, fill=True, color="0.7")
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
    figure.legend(*depth.get_legend_handles_labels(), loc="outside upper center", ncols=len(policies), frameon=False)
    figure.savefig(file, dpi=_DPI)


def draw_policy(name: str, requests: Requests, tiers: Sequence[str], seconds: float, file: Path) -> None:
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
        latency.plot(requests.due[answered], requests.latency[answered] * 1e3, ".", markersize=2, color=colour)
        for deadline in np.unique(requests.deadline[mine]):
            latency.axhline(deadline * 1e3, color=colour, linestyle="--", linewidth=0.8)
        for axes, values in (
            (depth, _binned(requests, requests.layers, answered, edges)),
            (attained, _binned(requests, in_time * 100.0, mine, edges)),
        ):
            axes.stairs(values, edges, baseline=None, color=colour, linewidth=1.2, label=tier)
    load.set(ylabel="texts/s, by arrival", title=name)
    load.legend(ncols=len(parts), fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    latency.set(ylabel="latency, ms (-- deadline)", yscale="log")
    depth.set(ylabel="mean layers", ylim=(0, None))
    attained.set(ylabel="in time, % of offered", ylim=(-3, 103), xlabel="s")
    figure.legend(*depth.get_legend_handles_labels(), loc="outside upper center", ncols=len(tiers), frameon=False)
    figure.savefig(file, dpi=_DPI)


def _panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(11, 2.3 * count), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(count, 1, sharex=True)
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.margins(x=0)
    return figure, panels


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
