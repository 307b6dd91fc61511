"""Who is within its share: the clock of a server of its own, and nothing else."""

from __future__ import annotations

import math

from strata.app.planning.cost import BatchBounds, Costs
from strata.app.scheduling.admission import Newcomer, judge
from strata.app.scheduling.curves import Curves
from strata.app.scheduling.policy import Policy
from strata.app.scheduling.snapshot import Capacity, Snapshot


def test_a_busy_process_is_waited_for_once_not_once_a_request() -> None:
    """250 requests a second that need a tenth of their share, before a loop whose turns take 20 ms."""
    bounds = BatchBounds(8192, math.inf, None, 30.0, 0.0)
    capacity = Capacity(Costs(), 2, bounds, lag_s=0.02)
    ahead = 0.0
    for _ in range(500):
        newcomer = Newcomer("large", 0.0007, 0.5, 0.5, 0.9, ahead, (250.0, 250.0))
        verdict = judge(newcomer, None, Snapshot(0.0, capacity, Policy()), Curves(12))
        assert verdict.within
        ahead = max(0.0, verdict.own_s - 1 / 250)
