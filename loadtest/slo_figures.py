"""The table of policies and tiers, and the figures that have bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from strata.loadtest.figures import Figure
from strata.loadtest.outcomes import Requests, Summary
from strata.loadtest.scenarios import Scenario

Tiers = Mapping[str, Summary]  # by tier, and "all"

LAG_SHARE = 0.05  # of the tightest deadline: what the generator itself may be late, 99 times of 100
CPU_SHARE = 0.1  # of the server's CPU time: what the generator may take
_FEW_MISSES = 10  # below which their ratio says nothing, neither for us nor against

_COLUMNS = (
    "policy tier offered in-time late refused 504 errors attained refused% goodput/s p50-ms p99-ms layers quality full%"
)


_SHORT = ("policy", "tier", "offered>", "attained>", "refused%>", "p99-ms>", "layers>", "quality>")  # fit 80 columns


def matrix(summaries: Mapping[str, Tiers]) -> list[list[str]]:
    """A row for each policy and tier, under a head."""
    rows = [_COLUMNS.split()]
    for name, tiers in summaries.items():
        rows += [[name if tier == "all" else "", tier, *_cells(summary)] for tier, summary in tiers.items()]
    return rows


def short_matrix(summaries: Mapping[str, Tiers]) -> list[list[str]]:
    """Likewise, of the columns that say most."""
    head, *rows = matrix(summaries)
    places = [head.index(name.rstrip(">")) for name in _SHORT]
    return [list(_SHORT), *([row[place] for place in places] for row in rows)]


def _cells(summary: Summary) -> list[str]:
    refused = " ".join(f"{count}x{status}" for status, count in summary.refused.items()) or "0"
    return [
        str(summary.offered),
        str(summary.in_time),
        str(summary.late),
        refused,
        str(summary.timed_out),
        str(summary.errors),
        f"{summary.attainment:.4f}",
        f"{summary.refused_share:.2%}",
        f"{summary.goodput:.1f}",
        f"{summary.p50_ms:.0f}",
        f"{summary.p99_ms:.0f}",
        f"{summary.depth:.2f}",
        f"{summary.quality:.4f}",
        f"{summary.full_depth:.1%}",
    ]


def compare(elastic: Tiers, fixed: Mapping[str, Tiers], full: str, scenario: Scenario) -> list[Figure]:
    """What the server that chooses the depth reaches, alone and against clients that fix it.

    ``full``: the policy that always runs everything. Bars are those of the scenario.
    """
    ours = elastic["all"]
    figures = [
        Figure(f"attainment of accepted requests, {tier}", summary.attainment, at_least=scenario.attainment)
        for tier, summary in elastic.items()
        if tier != "all"
    ]
    if scenario.first:
        tier = next(tier for tier in elastic if tier != "all")
        attained, depth = scenario.first
        figures += [
            Figure(f"in time, of all that {tier} offered", 1 - elastic[tier].missed_share, at_least=attained),
            Figure(f"mean depth of {tier}", elastic[tier].depth, "layers", at_least=depth),
        ]
    figures += [
        Figure("answered late", ours.late),
        Figure("errors and requests without an answer", ours.errors),
        Figure("share refused", ours.refused_share, at_most=scenario.refused),
        Figure("share at full depth", ours.full_depth, at_least=scenario.full_depth),
    ]
    if full in fixed:
        deepest = fixed[full]["all"]
        figures += [
            Figure(
                f"quality of answers in time, share of {full}'s",
                _ratio(ours.quality, deepest.quality),
                at_least=scenario.quality,
            ),
            Figure(f"goodput, times {full}'s", _ratio(ours.goodput, deepest.goodput), at_least=scenario.goodput),
        ]
    if len(fixed) > 1:
        figures += _misses(ours, {name: tiers["all"] for name, tiers in fixed.items()}, scenario)
    return figures


def _misses(ours: Summary, fixed: Mapping[str, Summary], scenario: Scenario) -> list[Figure]:
    figures = [Figure("misses (of all offered)", ours.missed_share * 100, "%")]
    better = {name: each.missed_share for name, each in fixed.items() if each.quality >= ours.quality}
    if better:
        best = min(better, key=lambda name: better[name])
        figures.append(Figure(f"  of the best fixed at least as good, {best}", better[best] * 100, "%"))
        if max(ours.missed_share, better[best]) * ours.offered >= _FEW_MISSES:
            # With no miss at all one is counted, so that the ratio is what was at least reached.
            missed = max(ours.missed_share, 1 / ours.offered)
            figures.append(Figure("  times fewer", better[best] / missed, "x", at_least=scenario.fewer_misses))
    return figures


def generator_figures(runs: Sequence[Requests], cpu_s: Mapping[str, float], opened: int) -> list[Figure]:
    """Whether the load came as it was meant to, and what sending it cost."""
    lag = np.concatenate([run.lag for run in runs]) * 1e3
    lag = lag[~np.isnan(lag)]
    tightest = float(min(run.deadline.min() for run in runs)) * 1e3
    p50, p99, most = map(float, np.percentile(lag, [50, 99, 100])) if len(lag) else (float("nan"),) * 3
    figures = [
        Figure("the generator's own lag, p99", p99, "ms", at_most=LAG_SHARE * tightest),
        Figure("  p50", p50, "ms"),
        Figure("  most", most, "ms"),
        Figure("  its CPU, share of one core", cpu_s["generator"] / cpu_s["wall"]),
        Figure("  connections opened on the way", opened),
    ]
    if cpu_s["server"]:
        figures.append(
            Figure("  its CPU, share of the server's", cpu_s["generator"] / cpu_s["server"], at_most=CPU_SHARE)
        )
    return figures


def _ratio(value: float, reference: float) -> float:
    return value / reference if reference else float("nan")
