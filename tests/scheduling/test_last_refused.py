"""What need not be judged again: what is like one that was refused a moment ago, as long as nothing has left."""

from __future__ import annotations

from collections import Counter
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from strata.app.engine.batch import Batch
from strata.app.planning.cost import CostModel, Load
from strata.app.scheduling import decisions
from strata.app.scheduling.admission import Verdict, judge
from strata.app.scheduling.decisions import Decisions
from strata.app.scheduling.last_refused import LastRefused
from strata.app.scheduling.learnt import Learnt
from strata.app.scheduling.limits import Limits
from strata.app.scheduling.policy import Policy
from strata.app.scheduling.running import Running
from strata.loadtest.simulation.engine import SimulatedPool, Speed
from strata.loadtest.simulation.traffic import simulate
from tests.scheduling.callers import FULL_PER_S, poisson, terms

ASKED = (("default", ""), 3, 1)


@pytest.mark.parametrize(
    ("tokens", "slack_s", "after_s", "moment", "late_s"),
    [
        (20, 0.1, 0.0, 1, 0.05),
        (21, 0.1, 0.01, 1, 0.035),
        (20, 0.09, 0.0, 1, 0.05),  # in more of a hurry
        (20, 0.12, 0.0, 1, 0.02),  # in less of one
        (19, 0.1, 0.0, 1, 0.0),  # shorter: it may be in time
        (20, 0.14, 0.0, 1, 0.0),  # so much less of a hurry that it may be in time
        (20, 0.1, 0.04, 1, 0.0),  # so much later that the engine may have come so far
        (20, 0.1, 0.0, 2, 0.0),  # something has left the queue
    ],
)
def test_what_is_no_smaller_is_as_late(tokens: int, slack_s: float, after_s: float, moment: int, late_s: float) -> None:
    refused = LastRefused()
    assert refused.late_s(ASKED, 20, 0.1, 0.0, 1) == 0.0
    refused.refused(ASKED, 20, 0.1, 0.05, 0.0)
    assert refused.late_s(ASKED, tokens, slack_s, after_s, moment) == pytest.approx(late_s)
    assert refused.late_s((("other", ""), 3, 1), tokens, slack_s, after_s, moment) == 0.0


def test_a_batch_that_is_done_before_its_time_ends_what_was_refused_for_it() -> None:
    """Nothing waited, so nothing leaves the queue: callers in a hurry were refused by an idle engine."""
    batch = Running([], [], Batch([]), Load(), 1000.0, perf_counter())
    pool, running = SimulatedPool(1, Speed(), np.random.default_rng(0)), [batch]
    pool.idle = 0
    decisions = Decisions(pool, Limits(), Policy(), Learnt(CostModel()), running, 12, perf_counter)
    asks = terms((1, 12), 10.0)

    def late_s() -> float:
        return decisions.admit(asks, [20], perf_counter(), ("default", "")).late_s

    assert late_s() > 900
    assert late_s() > 900
    running.clear()
    pool.idle = 1
    assert late_s() == 0


def test_a_flood_is_answered_as_well_when_what_is_like_a_refused_one_is_not_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged = 0

    def counted(*given: Any) -> Verdict:
        nonlocal judged
        judged += 1
        return judge(*given)

    monkeypatch.setattr(decisions, "judge", counted)

    def flood() -> Counter[str]:
        calls = poisson(14 * FULL_PER_S, 3, terms((3, 6, 12), deadline_s=0.5))
        simulate(calls)
        return Counter(call.outcome for call in calls)

    outcomes, seldom, judged = flood(), judged, 0
    monkeypatch.setattr(LastRefused, "late_s", lambda *_: 0.0)
    assert flood()["answered"] == pytest.approx(outcomes["answered"], rel=0.02)
    assert judged - seldom > 0.1 * outcomes["refused"]
