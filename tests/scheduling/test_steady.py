"""Callers that wait for an answer before they ask again: no more can come than is answered, so no time is kept free."""

from __future__ import annotations

import numpy as np
import pytest

from strata.app.scheduling.steady import Steady
from strata.loadtest.simulation.traffic import Call, simulate_closed
from tests.scheduling.callers import EXITS, mean_depth, terms


def closed(connections: int, exits: tuple[int, ...], deadline_s: float) -> list[Call]:
    rng = np.random.default_rng(1)

    def next_call() -> Call:
        return Call(0.0, (int(np.clip(rng.lognormal(3.3, 0.6), 4, 250)),), terms(exits, deadline_s))

    return [call for call in simulate_closed(connections, next_call, 20) if call.at > 5]


@pytest.mark.parametrize(("connections", "deadline_s", "least"), [(64, 0.5, 3.5), (128, 1.0, 4.0)])
def test_who_asks_again_once_answered_is_answered_as_deep_as_its_time_allows(
    connections: int, deadline_s: float, least: float
) -> None:
    """Shallow answers bring the next requests sooner, which was taken for load: 1.2 and 1.0 layers."""
    calls = closed(connections, EXITS, deadline_s)
    assert all(call.in_time for call in calls)
    assert mean_depth(calls) >= least


def test_what_comes_and_goes_is_not_steady() -> None:
    steady, refused, bursts, rising, load = (Steady() for _ in range(5))
    waits, rng = 60.0, np.random.default_rng(0)
    for number in range(1000):
        now = number / 100
        steady.found(60 - number % 6, now)
        refused.found(60 - number % 6, now)
        bursts.found(60 if number % 200 < 50 else 5, now)
        rising.found(number, now)
        waits = max(0.0, waits + rng.poisson(1.0) - 1.0)
        load.found(round(waits), now)
    refused.refused(9.0)
    assert steady.part(10.0) == 1.0
    assert [other.part(10.0) for other in (refused, bursts, rising, load, Steady())] == [0.0] * 5
    assert refused.part(20.0) == 1.0
