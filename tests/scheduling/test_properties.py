"""What holds whatever arrives: random requests, a simulated engine, a virtual clock, the server's own scheduler."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from strata.app.engine.batch import Batch
from strata.app.scheduling.limits import Limits
from strata.loadtest.simulation.engine import SimulatedPool, Speed
from strata.loadtest.simulation.traffic import Call, simulate
from tests.scheduling.callers import EXITS, poisson, terms

exits = st.sets(st.sampled_from(EXITS), min_size=1).map(lambda found: tuple(sorted(found)))
calls = st.builds(
    Call,
    at=st.floats(0, 3),
    lengths=st.lists(st.integers(2, 300), min_size=1, max_size=6).map(tuple),
    terms=st.builds(
        terms,
        exits,
        st.none() | st.floats(0.02, 4.0),
        st.sampled_from(["gold", "silver", "bronze"]),
    ),
    leaves_after=st.none() | st.none() | st.floats(0.01, 2.0),
)


@given(st.lists(calls, min_size=1, max_size=60), st.integers(1, 3), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_each_request_ends_once_at_a_depth_it_allowed(given_calls: list[Call], workers: int, seed: int) -> None:
    fleet = simulate(given_calls, workers=workers, seed=seed, shares={"gold": 2.0})
    for call in given_calls:
        assert call.outcome in ("answered", "refused", "expired", "left")
        assert call.answers == (call.outcome == "answered")
        if call.outcome == "answered":
            assert call.layers in call.terms.exits, "under the floor, or an exit that the caller did not accept"
        if call.terms.deadline_s is None:
            assert call.outcome in ("answered", "left"), "without a deadline there is nothing to refuse"
    scheduler = fleet[0].scheduler
    assert (scheduler.waiting_tickets, scheduler.waiting_tokens) == (0, 0)
    assert fleet[0].pool.idle == workers


@given(st.lists(calls, min_size=1, max_size=40), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_a_failing_engine_loses_no_request_and_fails_only_what_fails_twice(given_calls: list[Call], seed: int) -> None:
    rng = np.random.default_rng(seed)

    def break_some(pool: SimulatedPool) -> None:
        def fails(batch: Batch) -> bool:
            # Texts of 13 tokens always break their batch, others by chance once in a while.
            return any(len(row.tokens) == 13 for row in batch.rows) or rng.random() < 0.02

        pool.fails = fails

    simulate(given_calls, seed=seed, prepare=break_some)
    for call in given_calls:
        assert call.outcome in ("answered", "refused", "expired", "left", "failed")
        if 13 in call.lengths:
            assert call.outcome != "answered"


@given(st.lists(calls, min_size=20, max_size=60))
@settings(max_examples=20, deadline=None)
def test_the_queue_never_holds_more_than_its_limits(given_calls: list[Call]) -> None:
    limits = Limits(max_queue_texts=12, max_queue_tokens=900)
    seen: list[tuple[int, int]] = []
    for call in given_calls:
        call.at /= 30
    fleet = simulate(given_calls, limits=limits, speed=Speed(noise=0.3), watch=lambda s: seen.append(s))
    assert all(texts <= 12 and tokens <= 900 for texts, tokens in seen)
    assert fleet[0].scheduler.waiting_tickets == 0


@given(st.lists(calls, min_size=10, max_size=60), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_no_worker_is_idle_while_anything_waits(given_calls: list[Call], workers: int) -> None:
    """Work conservation: whatever the shares, depths and deadlines are."""
    pools: list[SimulatedPool] = []
    times = iter(sorted(call.at for call in given_calls))
    last = -1.0

    def watch(waiting: tuple[int, int]) -> None:
        nonlocal last
        now = next(times)
        if now > last + 1e-6:  # before what comes now is let in
            assert not waiting[0] or not pools[0].idle, f"at {now} s {waiting[0]} texts wait"
        last = now

    simulate(given_calls, workers=workers, prepare=pools.append, watch=watch, shares={"gold": 3.0})


flood = st.tuples(
    st.sets(st.sampled_from(EXITS), min_size=1).map(lambda found: tuple(sorted(found))),
    st.none() | st.floats(0.2, 4.0),  # deadline
    st.floats(20, 400),  # texts a second
)


@given(st.lists(flood, min_size=1, max_size=4), st.sampled_from([1, 3, 6]), st.floats(0.3, 0.9), st.integers(0, 9))
@example([((1,), None, 20.0), ((4,), 3.0, 175.0), ((4,), 0.25, 203.0)], 1, 0.375, 0)
@example(
    [((6,), 1.40481, 332.8879), ((1, 2, 4, 8, 12), 3.12806, 179.8004), ((8, 10), 0.341418, 256.5636)],
    6,
    0.41890604430083705,
    6,
)
@example([((10,), 0.796, 381.8), ((12,), 2.55, 288.8)], 6, 0.37658282952388694, 8)
@settings(max_examples=6, deadline=None)
def test_whoever_stays_within_its_share_is_in_time_whatever_the_others_send(
    floods: list[tuple[tuple[int, ...], float | None, float]], depth: int, share: float, seed: int
) -> None:
    """The bound of guaranteed-rate scheduling: a server of its own, as fast as its share, and one batch of others."""
    carried = 2 / (36 * 6.8e-5 * depth + 0.003)  # texts a second of two workers at this depth, about
    own = poisson(0.6 * share * carried, 4, terms((depth,), 1.0, "own"), seed=seed)
    others = [
        call
        for number, (exits, deadline_s, rate) in enumerate(floods)
        for call in poisson(rate, 4, terms(exits, deadline_s, f"other{number}"), seed=seed + 1 + number)
    ]
    rest = (1 - share) / len(floods)
    simulate(own + others, shares={"own": share, **{f"other{number}": rest for number in range(len(floods))}})
    missed = [call for call in own if not call.in_time]
    assert len(missed) <= 0.01 * len(own) + 1, f"{len(missed)} of {len(own)}"
