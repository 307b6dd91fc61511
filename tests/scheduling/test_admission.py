"""Who is within its share: the clock of a server of its own, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest

from strata.app.planning.cost import BatchBounds, Costs
from strata.app.scheduling.admission import Newcomer, judge
from strata.app.scheduling.curves import Curves
from strata.app.scheduling.policy import Policy
from strata.app.scheduling.queue import Columns
from strata.app.scheduling.snapshot import Capacity, Expected, Snapshot


def test_a_busy_process_is_waited_for_once_not_once_a_request() -> None:
    """250 requests a second that need a tenth of their share, before a loop whose turns take 20 ms."""
    bounds = BatchBounds(8192, math.inf, None, 30.0, 0.0)
    capacity = Capacity(Costs(), 2, bounds, lag_s=0.02)
    ahead = 0.0
    for _ in range(500):
        newcomer = Newcomer("large", 0.0007, 0.5, 0.5, 0.9, ahead, math.inf, (250.0, 250.0))
        verdict = judge(newcomer, None, Snapshot(0.0, capacity, Policy()), Curves(12))
        assert verdict.within
        ahead = max(0.0, ahead + verdict.own_s - 1 / 250)


@pytest.mark.parametrize(
    ("waits", "rate", "age_s", "late"),
    [(800, 10.0, 9.0, False), (800, 400.0, 9.0, True), (300, 400.0, 9.0, False), (300, 400.0, 0.5, True)],
    ids=["a burst", "always", "always, fewer wait", "it begins"],
)
def test_who_is_always_beyond_its_share_waits_no_longer_than_others_may_let_it(
    waits: int, rate: float, age_s: float, late: bool
) -> None:
    """Its requests wait, with 2 s each and 1.5 ms of the engine, while those with most of the engine are quiet.

    By waiting a burst is answered; of a flood as many are answered by who waits shortly. When it begins, others may,
    too, and are not known yet.
    """
    curves = Curves(12)
    capacity = Capacity(Costs(token_layer=1e-4), 2, BatchBounds(512, 0.05, None, 10.0))  # 3 ms a text at its floor
    every, curve = np.ones(waits), curves.number((3, 12), (0.9, 1.0))
    queue = Columns(
        2 * every,
        2 * every,
        10 * every,
        every,
        3 * every,
        np.full(waits, curve),
        0 * every,
        every < 1,
        0 * every,
        0 * every,
    )

    def kind(tier: str, share: float, deadline_s: float, of: float) -> Expected:
        return Expected(tier, share, 1.0, (of, of), 10.0, deadline_s, 3, 12, curve, 3e-3, 12e-3, (of, of))

    expected = [kind("large", 0.9, 0.5, 1.0), kind("small", 0.1, 2.0, rate)]
    snapshot = Snapshot(0.0, capacity, Policy(), expected)
    newcomer = Newcomer("small", 3e-3, 2.0, 2.0, 0.1, 10.0, math.inf, (rate, rate), age_s)
    assert (judge(newcomer, queue, snapshot, curves).late_s > 0) == late
