"""Callers for the simulated server."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from strata.app.planning.plan import Terms
from strata.loadtest.simulation.traffic import Call

EXITS = (1, 2, 3, 4, 6, 8, 10, 12)
FULL_PER_S = 60  # texts a second that two simulated workers run at full depth, about


def terms(exits: Sequence[int] = EXITS, deadline_s: float | None = None, tier: str = "default") -> Terms:
    """Terms whose quality is not measured."""
    return Terms(tuple(exits), 4, (None,) * len(exits), deadline_s, tier)


def poisson(rate: float, seconds: float, served: Terms, seed: int = 0, start: float = 0.0) -> list[Call]:
    """Single texts of mixed lengths, ``rate`` a second."""
    rng = np.random.default_rng(seed)
    times = start + np.sort(rng.uniform(0, seconds, rng.poisson(rate * seconds)))
    lengths = np.clip(rng.lognormal(3.3, 0.6, len(times)), 4, 250).astype(int)
    return [Call(float(at), (int(n),), served) for at, n in zip(times, lengths, strict=True)]


def attainment(calls: Sequence[Call]) -> float:
    """Share of the accepted calls that were answered in time."""
    accepted = [call for call in calls if call.outcome not in ("refused", "full")]
    return sum(call.in_time for call in accepted) / max(1, len(accepted))


def mean_depth(calls: Sequence[Call]) -> float:
    """Of the answered calls."""
    return float(np.mean([call.layers for call in calls if call.outcome == "answered"]))
