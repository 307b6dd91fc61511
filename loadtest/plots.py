"""Load, latency, depth and attainment over time, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.outcomes import Mask, Numbers, Requests

_COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#D55E00",
    "#56B4E9",
    "#000000",
)  # Okabe and Ito's, for all eyes
_BIN_S = 1.0


def draw_over_time(policies: Mapping[str, Requests], seconds: float, file: Path) -> None:
    """All policies in one picture: each panel a measure, each line a policy."""
    figure, (load, latency, depth, attained) = _panels(4)
    offered = next(iter(policies.values()))
    load.fill_between(_starts(seconds), _rates(offered, seconds), step="post", color="0.7")
    load.set_ylabel("offered, texts/s")
    for colour, (name, requests) in zip(_cycle(len(policies)), policies.items(), strict=True):
        answered = requests.status == 200
        for axes, values in (
            (latency, _binned(requests, requests.latency * 1e3, answered, seconds, 95)),
            (depth, _binned(requests, requests.layers, answered, seconds)),
            (attained, _binned(requests, requests.in_time * 100.0, answered | ~answered, seconds)),
        ):
            axes.step(_starts(seconds), values, where="post", color=colour, label=name, linewidth=1.2)
    latency.set(ylabel="p95 of a second, ms", yscale="log")
    depth.set(ylabel="mean layers", ylim=(0, None))
    attained.set(ylabel="in time, % of offered", ylim=(-3, 103), xlabel="s")
    latency.legend(ncols=len(policies), fontsize="small", loc="upper left", bbox_to_anchor=(0, 1.25), frameon=False)
    _save(figure, file)


def draw_policy(name: str, requests: Requests, tiers: Sequence[str], seconds: float, file: Path) -> None:
    """One policy: what became of the load, and every tier's latency against its deadline, depth and attainment."""
    figure, (load, latency, depth, attained) = _panels(4)
    in_time, refused = requests.in_time, requests.refused
    late = (requests.status == 200) & ~in_time
    parts = {"in time": in_time, "late": late, "refused": refused, "failed": ~(in_time | late | refused)}
    load.stackplot(
        _starts(seconds),
        [_rates(requests.where(part), seconds) for part in parts.values()],
        labels=list(parts),
        colors=["#009E73", "#E69F00", "0.6", "#D55E00"],
        step="post",
    )
    load.set(ylabel="texts/s, by arrival", title=name)
    load.legend(ncols=4, fontsize="small", loc="upper right", frameon=False)
    for colour, (number, tier) in zip(_cycle(len(tiers)), enumerate(tiers), strict=True):
        mine = requests.tier == number
        if not mine.any():
            continue
        answered = mine & (requests.status == 200)
        latency.plot(requests.due[answered], requests.latency[answered] * 1e3, ".", markersize=2, color=colour)
        latency.axhline(requests.deadline[mine][0] * 1e3, color=colour, linestyle="--", linewidth=0.8)
        depth.step(
            _starts(seconds),
            _binned(requests, requests.layers, answered, seconds),
            where="post",
            color=colour,
            label=tier,
        )
        attained.step(_starts(seconds), _binned(requests, in_time * 100.0, mine, seconds), where="post", color=colour)
    latency.set(ylabel="latency, ms (-- deadline)", yscale="log")
    depth.set(ylabel="mean layers", ylim=(0, None))
    depth.legend(ncols=len(tiers), fontsize="small", loc="lower right", frameon=False)
    attained.set(ylabel="in time, % of offered", ylim=(-3, 103), xlabel="s")
    _save(figure, file)


def _panels(count: int) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(11, 2.3 * count), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(count, 1, sharex=True)
    for axes in panels:
        axes.grid(alpha=0.3)
        axes.margins(x=0)
    return figure, panels


def _save(figure: Figure, file: Path) -> None:
    figure.savefig(file, dpi=110)


def _cycle(count: int) -> list[str]:
    return [_COLOURS[i % len(_COLOURS)] for i in range(count)]


def _starts(seconds: float) -> Numbers:
    return np.arange(int(np.ceil(seconds / _BIN_S))) * _BIN_S


def _bins(requests: Requests) -> Numbers:
    return (requests.due / _BIN_S).astype(int)


def _rates(requests: Requests, seconds: float) -> Numbers:
    count = len(_starts(seconds))
    return np.bincount(np.minimum(_bins(requests), count - 1), minlength=count) / _BIN_S


def _binned(
    requests: Requests, values: Numbers, chosen: Mask, seconds: float, percentile: float | None = None
) -> Numbers:
    """Mean, or a percentile, of the chosen values that were due in each bin; NaN in a bin without any."""
    bins, picked = _bins(requests)[chosen], values[chosen]
    found = np.full(len(_starts(seconds)), np.nan)
    for place in np.unique(bins):
        inside = picked[bins == place]
        found[place] = inside.mean() if percentile is None else np.percentile(inside, percentile)
    return found
