"""The price of engine time: depth rises with the level, concavely, and never leaves the exits allowed."""

from __future__ import annotations

import asyncio
import time
from itertools import combinations, islice, pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from strata.app.planning.cost import CostModel
from strata.app.scheduling.curves import LEVELS, Curves, hull
from strata.app.scheduling.decisions import Decisions
from strata.app.scheduling.learnt import Learnt
from strata.app.scheduling.limits import Limits
from strata.app.scheduling.policy import Policy
from strata.loadtest.simulation.engine import SimulatedPool, Speed
from tests.scheduling.callers import terms

curves = st.lists(st.tuples(st.integers(1, 12), st.floats(0.3, 1.0)), min_size=1, max_size=12, unique_by=lambda p: p[0])


@given(curves)
def test_depth_rises_with_the_level_from_the_floor_to_full_depth(points: list[tuple[int, float]]) -> None:
    exits, quality = zip(*sorted(points), strict=True)
    quality = tuple(sorted(quality))
    row = Curves(12).row(exits, quality)
    assert len(row) == LEVELS
    assert (row[0], row[-1]) == (exits[0], exits[-1])
    assert all(a <= b for a, b in pairwise(row))
    assert set(row) <= set(exits)


def test_an_exit_under_the_hull_is_passed_over() -> None:
    found = hull((4, 5, 6), (0.9766, 0.9791, 0.985), 12)
    assert [layers for layers, _ in found] == [4, 6], "5 layers are worth less for their time than 4 and 6 by turns"


def test_curves_out_of_use_are_forgotten() -> None:
    known = Curves(12)
    for i in range(600):
        known.number((1, 12), (i / 1000, 1.0))
    assert known.full()
    known.forget_all_but([((1, 12), (0.5, 1.0))])
    assert len(known) == 1


def test_sets_of_exits_that_clients_invent_are_not_kept_for_ever() -> None:
    """Also those of requests that are only planned, or refused: they never reach the queue."""

    async def invent() -> int:
        pool = SimulatedPool(1, Speed(), np.random.default_rng(0))
        pool.idle = 0  # so that whatever comes would wait
        decisions = Decisions(pool, Limits(), Policy(), Learnt(CostModel()), [], 12, time.perf_counter)
        for exits in islice(combinations(range(1, 13), 5), 700):
            decisions.plan(terms(exits, 1.0), [20], ("default", ""))
        return len(decisions._curves)

    assert asyncio.run(invent()) <= 512
