"""The next batch, where what a batch costs whatever is in it is most of what it takes, as on a GPU."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.app.planning.cost import BatchBounds, Costs, Load
from strata.app.scheduling.batching import form
from strata.app.scheduling.policy import Policy
from strata.app.scheduling.ticket import Admitted
from strata.loadtest.simulation.engine import SimulatedPool, Speed
from strata.loadtest.simulation.traffic import simulate
from tests.scheduling.callers import attainment, poisson, terms
from tests.scheduling.test_queue import request

COSTS = Costs(batch=1e-3, layer=1e-3, token_layer=1e-6)


def waiting(left_s: float, tokens: int = 20) -> Admitted:
    made = request(left_s, [tokens])
    made.deadline = left_s
    return made


def formed(candidates: list[tuple[Admitted, int]]) -> list[tuple[Admitted, int]]:
    choice = form(candidates, BatchBounds(32_768, 0.02, None, 20.0), COSTS, 0.0, Policy())
    return [(request, layers) for request, _, layers in choice.parts]


def test_those_with_no_time_for_a_deeper_one_are_not_run_one_by_one() -> None:
    """Each has time for its own depth and not for the next one's, which ended the batch."""
    queue = [(waiting(0.0036), depth) for depth in (2, 4, 2, 8, 2, 4, 2)]
    assert formed(queue) == [queue[i] for i in (0, 2, 4, 6)]


@given(
    st.lists(st.tuples(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(1, 12)), max_size=6),
    st.integers(1, 400),
    st.integers(1, 30) | st.none(),
    st.floats(0.002, 0.05),
)
def test_a_batch_is_as_full_as_it_may_be_whether_requests_fit_whole_or_in_part(
    made: list[tuple[list[int], int]], tokens: int, texts: int | None, seconds: float
) -> None:
    candidates = [(request(inf, lengths), layers) for lengths, layers in made]
    found = form(candidates, BatchBounds(tokens, seconds, texts, 20.0), COSTS, 0.0, Policy())
    taken = [(len(ticket.tokens), layers) for one, count, layers in found.parts for ticket in [*one.waiting][:count]]
    assert found.load == Load.of(taken)
    assert bool(taken) == bool(candidates)
    if len(taken) > 1:
        assert found.load.tokens <= tokens
        assert len(taken) <= (texts or inf)
        assert COSTS.seconds(found.load) <= max(seconds, COSTS.seconds(Load.of(taken[:1])))
    for one, count, layers in found.parts[:1]:
        if count < len(one.waiting):
            more = found.load if len(found.parts) == 1 else Load.of(taken[:count])
            more = more.with_row(len(one.waiting[count].tokens), layers)
            full = more.tokens > tokens or more.texts > (texts or inf)
            assert full or COSTS.seconds(more) > max(seconds, COSTS.seconds(Load.of(taken[:1])))


def test_one_passed_over_keeps_the_time_it_needs() -> None:
    hurried, deep, shallow = waiting(0.0036), waiting(0.0125), waiting(1.0, 400)
    assert formed([(hurried, 2), (deep, 8), (shallow, 2)]) == [(hurried, 2)], "9 ms of 0.9 x 12.5 are its own"


def test_what_does_not_pay_is_left_to_the_next_batch() -> None:
    """More than as much again as the batch costs anyway saves nobody time."""
    long = [(waiting(inf, 400), 2) for _ in range(12)]
    found = formed([(waiting(0.02), 2), (waiting(inf, 30_000), 12), *long])
    assert len(found) == 4, "3 ms and three of 0.8"


@pytest.mark.parametrize("seed", range(2))
def test_a_gpu_under_load_does_not_fall_into_batches_of_one(seed: int) -> None:
    speed = Speed(batch=1.2e-3, layer=5.7e-4, token=6e-8, token_layer=4.5e-7)
    calls = [
        *poisson(700, 1.5, terms((8, 12), 0.16, "t1"), seed=seed),
        *poisson(500, 1.5, terms((2, 3, 4, 6, 8, 12), 0.5, "t2"), seed=seed + 10),
        *poisson(1000, 1.5, terms((3, 4, 6, 8, 12), 0.5, "t3"), seed=seed + 20),
        *poisson(1200, 1.5, terms((4, 6, 8, 12), 0.046, "t4"), seed=seed + 30),
    ]

    def cuda(pool: SimulatedPool) -> None:
        pool.choice.device = "cuda"

    simulate(calls, workers=1, speed=speed, prepare=cuda, seed=seed)
    assert attainment(calls) >= 0.99
    assert np.mean([call.in_time for call in calls]) >= 0.95
