"""Promise 5 between tiers: a tier that stays within its share keeps its time and its depth, whatever the others do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.app.engine.batch import Batch
from strata.app.planning.cost import Load
from strata.app.planning.plan import Terms
from strata.app.scheduling.limits import Limits
from strata.loadtest.simulation.engine import SimulatedPool, Speed
from strata.loadtest.simulation.traffic import Call, simulate
from tests.scheduling.callers import EXITS, FULL_PER_S, mean_depth, poisson, terms


def in_time(calls: list[Call]) -> float:
    """Share of all calls, refused ones among them."""
    return sum(call.in_time for call in calls) / max(1, len(calls))


@pytest.mark.parametrize("bulk_per_s", [40, 90])
def test_work_beyond_anothers_share_takes_nobodys_depth(bulk_per_s: int) -> None:
    interactive = poisson(2, 20, terms(EXITS, 1.0, "interactive"), seed=1)
    bulk = poisson(bulk_per_s, 20, terms((6, 8, 10, 12), 5.0, "bulk"), seed=2)
    simulate(interactive + bulk, shares={"interactive": 4.0, "bulk": 1.0})
    assert in_time(interactive) == 1.0
    assert mean_depth(interactive) >= 11
    assert in_time(bulk) > 0.5, "what the others leave is the bulk's"


def test_a_flood_takes_no_time_from_those_within_their_share() -> None:
    large = poisson(150, 10, terms((3,), 0.5, "large"), seed=1)
    small = poisson(400, 10, terms((3,), 0.5, "small"), seed=2)
    simulate(large + small, shares={"large": 9.0, "small": 1.0})
    assert in_time(large) >= 0.99
    assert in_time(small) >= 0.1


FLOOR_3 = EXITS[2:]


def lost(calls: list[Call]) -> float:
    """Share of what was let in that was not answered in time."""
    accepted = [call for call in calls if call.outcome not in ("refused", "full", "unavailable")]
    return 1 - sum(call.in_time for call in accepted) / len(accepted)


def of_many(texts: int, together: int, every_s: float, seconds: float, served: Terms) -> list[Call]:
    """Requests of so many texts, so many of them at once."""
    times = [2 + every_s * i + 0.01 * j for i in range(int(seconds / every_s)) for j in range(together)]
    return [Call(at, (30,) * texts, served) for at in times]


def test_many_texts_without_a_deadline_are_run_at_the_pace_of_their_share() -> None:
    """All of such a request was due at once: it took the engine from all others, at full depth (88 % in time)."""
    singles = poisson(1.2 * FULL_PER_S, 22, terms(EXITS, 0.15, "app"), seed=1)
    large = of_many(100, 1, 5.0, 16, terms(EXITS, None, "bulk"))
    simulate(singles + large, shares={"app": 1.0, "bulk": 1.0})
    assert in_time(singles) >= 0.999
    assert mean_depth(singles) >= 8.5
    assert max(call.seconds for call in large) < 5


@pytest.mark.parametrize(("large", "small"), [(1, 1), (1, 50), (50, 1)])
def test_tiers_without_a_deadline_share_the_engine_by_their_shares(large: int, small: int) -> None:
    """Behind the first of each line it was first come, first served: 50, 17 and 83 %."""
    seconds, calls = 40.0, []
    for texts, name in ((large, "large"), (small, "small")):
        calls += of_many(texts, 1, texts / (1.5 * FULL_PER_S), seconds, terms((12,), None, name))
    simulate(calls, shares={"large": 9.0, "small": 1.0})
    ran: Counter[str] = Counter()
    for call in calls:
        if call.outcome == "answered" and 10 < call.at + call.seconds < seconds:
            ran[call.terms.tier] += len(call.lengths)
    assert ran["large"] / ran.total() == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize(("tiers", "deadline_s"), [(9, 0.2), (19, 0.5)])
def test_many_small_tiers_within_their_shares_keep_their_depth(tiers: int, deadline_s: float) -> None:
    """One text of a small share was a burst, as if none of the others could wait meanwhile: 6.1 and 6.5 layers."""
    own: list[Call] = []
    for i in range(tiers):
        own += poisson(0.6 * FULL_PER_S / (tiers + 1), 12, terms(EXITS, deadline_s, f"own{i}"), seed=i)
    flood = poisson(4 * FULL_PER_S, 12, terms(EXITS, deadline_s, "flood"), seed=100)
    simulate(own + flood, shares={"flood": 1.0} | {f"own{i}": 1.0 for i in range(tiers)})
    assert in_time(own) >= 0.99
    assert mean_depth([call for call in own if call.at > 4]) >= 10.5


@pytest.mark.parametrize(("mine_s", "flood_s", "least"), [(2.0, 0.5, 11), (0.5, 2.0, 11), (5.0, 0.25, 10)])
def test_a_flood_takes_no_depth_from_who_has_more_time_than_it(mine_s: float, flood_s: float, least: float) -> None:
    """It goes first, and what it kept waiting was taken for a burst of the other's: 8.9 layers in the first case."""
    large = poisson(0.6 * FULL_PER_S, 15, terms(FLOOR_3, mine_s, "large"), seed=1)
    small = poisson(2.5 * FULL_PER_S, 15, terms(FLOOR_3, flood_s, "small"), seed=2)
    simulate(large + small, shares={"large": 9.0, "small": 1.0})
    assert in_time(large) >= 0.99
    assert mean_depth(large) >= least
    assert lost(small) < 0.01
    assert in_time(small) > 0.4


@pytest.mark.parametrize(("mine", "mine_s", "flood", "flood_s"), [(0.27, 0.8, 5.2, 0.18), (0.35, 4.0, 8.0, 0.35)])
def test_of_what_a_flood_may_take_nothing_is_kept_free_a_second_time(
    mine: float, mine_s: float, flood: float, flood_s: float
) -> None:
    """Its share was foreseen, and half of all time kept free besides: 9.0 and 3.0 layers."""
    own = poisson(mine * FULL_PER_S, 15, terms(EXITS, mine_s, "own"), seed=1)
    others = poisson(flood * FULL_PER_S, 15, terms((3,), flood_s, "others"), seed=2)
    simulate(own + others, shares={"own": 1.0, "others": 1.0})
    assert in_time(own) >= 0.99
    assert mean_depth(own) >= 11
    assert lost(others) < 0.01
    assert in_time(others) * flood >= 3.5, "the rest of the engine is theirs, at 3 layers of 12"


def test_callers_without_a_deadline_have_their_tiers_share_together() -> None:
    """Each was promised a part of it as large as when it came: of the other tier 62 % were in time."""
    app = poisson(0.4 * FULL_PER_S, 25, terms(EXITS, 0.15, "app"), seed=1)
    bulk = [Call(2 + 0.01 * i, (30,) * 150, terms((12,), None, "bulk"), caller=f"caller{i}") for i in range(16)]
    simulate(app + bulk, shares={"app": 1.0, "bulk": 1.0})
    assert in_time(app) >= 0.99
    assert mean_depth(app) >= 9.5
    assert max(call.seconds for call in bulk) < 1.2 * 16 * 150 / (0.5 * FULL_PER_S), "as fast as half of the engine"


def test_what_was_let_in_by_an_idle_engine_is_run_at_the_share_of_now() -> None:
    """Its tier was alone when it came, and kept half of the engine from one with nine tenths: 97 % in time."""
    bulk = [Call(0.5, (35,) * 200, terms((12,), None, "bulk"), leaves_after=30.0) for _ in range(40)]
    app = poisson(FULL_PER_S, 25, terms(EXITS, 0.5, "app"), seed=1, start=5)
    simulate(bulk + app, shares={"app": 9.0, "bulk": 1.0})
    assert in_time(app) >= 0.995
    assert mean_depth(app) >= 11


@pytest.mark.parametrize("load", [1.0, 4.0])
def test_within_its_share_who_has_no_deadline_is_answered_before_clients_give_up(load: float) -> None:
    """It waited ten seconds beside whoever takes all of the engine: most clients give up after five."""
    app = poisson(load * FULL_PER_S, 20, terms(EXITS, 0.5, "app"), seed=1)
    bulk = poisson(0.3 * FULL_PER_S, 20, terms((12,), None, "bulk"), seed=2)
    simulate(app + bulk, shares={"app": 1.0, "bulk": 1.0})
    assert max(call.seconds for call in bulk) < 3
    assert in_time(app) >= (0.99 if load == 1 else 0.95)


def test_of_one_caller_queries_keep_their_depth_beside_documents_without_a_deadline() -> None:
    """All of these counted as load that lasts, though they wait for capacity that nobody wants: 6.3 layers."""
    queries = poisson(0.3 * FULL_PER_S, 25, terms(EXITS, 0.15), seed=1)
    documents = poisson(0.9 * FULL_PER_S, 25, terms((12,), None), seed=2)
    simulate(queries + documents)
    assert in_time(queries) >= 0.99
    assert mean_depth(queries) >= 8


@pytest.mark.parametrize(("texts", "every_s", "deadline_s"), [(32, 5.0, 2.0), (8, 1.25, 0.5)])
def test_of_one_caller_what_has_little_time_does_not_wait_for_what_has_more(
    texts: int, every_s: float, deadline_s: float
) -> None:
    """Queries and documents of one key: documents let in made queries be beyond their share (81 and 83 % in time)."""
    queries = poisson(0.5 * FULL_PER_S, 30, terms(EXITS, 0.15), seed=1)
    documents = of_many(texts, 3, every_s, 28, terms((12,), deadline_s))
    simulate(queries + documents)
    assert in_time(queries) >= 0.99
    assert in_time(documents) >= 0.95
    assert mean_depth(queries) >= 9.5


def test_work_of_callers_who_left_is_not_held_against_those_who_stay() -> None:
    """They share a tier; what those who leave had been promised made the others be beyond their share (97 %)."""
    leave = of_many(20, 1, 0.05, 10, terms((12,), 2.0, "app"))
    for call in leave:
        call.leaves_after = 0.01
    stay = poisson(30, 10, terms((12,), 2.0, "app"), seed=1)
    flood = poisson(5 * FULL_PER_S, 12, terms(EXITS[2:], 2.0, "bulk"), seed=2)
    simulate(leave + stay + flood, shares={"app": 1.0, "bulk": 1.0})
    assert in_time(stay) == 1.0
    assert all(call.outcome == "left" for call in leave)


def test_who_fills_the_queue_leaves_room_to_those_who_have_nothing_in_it() -> None:
    bulk = [Call(0.1 * i, (30,) * 30, terms((12,), None, "bulk")) for i in range(100)]
    app = poisson(0.2 * FULL_PER_S, 10, terms(EXITS, 0.5, "app"), seed=1)
    simulate(bulk + app, shares={"app": 1.0, "bulk": 1.0}, limits=Limits(max_queue_texts=400))
    assert any(call.outcome == "full" for call in bulk)
    assert not any(call.outcome == "full" for call in app)


def test_who_fills_the_queue_with_tokens_leaves_room_too() -> None:
    bulk = [Call(0.01 * i, (200,), terms((12,), None, "bulk")) for i in range(900)]
    app = poisson(0.2 * FULL_PER_S, 10, terms(EXITS, 0.5, "app"), seed=1)
    simulate(bulk + app, shares={"app": 1.0, "bulk": 1.0}, limits=Limits(max_queue_tokens=80_000))
    assert any(call.outcome == "full" for call in bulk)
    assert not any(call.outcome == "full" for call in app)


def test_what_the_limits_allow_is_let_into_an_empty_queue() -> None:
    others = [Call(float(at), (30,), terms((12,), None, "app")) for at in range(3)]
    whole = Call(9.0, (8,) * 1000, terms((12,), None, "bulk"))
    simulate([*others, whole], limits=Limits(max_queue_texts=1001))
    assert whole.outcome == "answered"


def test_a_flood_that_is_foreseen_takes_no_depth() -> None:
    """Most of it will be refused, so those who keep their depth need not make way for it."""
    large = poisson(0.9 * FULL_PER_S, 10, terms(FLOOR_3, 0.5, "large"), seed=1)
    small = poisson(5 * FULL_PER_S, 10, terms(FLOOR_3, 2.0, "small"), seed=2)
    simulate(large + small, shares={"large": 9.0, "small": 1.0})
    assert in_time(large) == 1.0
    assert mean_depth(large) >= 11
    assert lost(small) < 0.01
    assert in_time(small) > 0.25


def test_a_flood_lets_in_no_more_than_is_answered_while_others_begin_to_send() -> None:
    """They had sent one request before, so their averages took two seconds to know: a tenth of the flood's expired."""
    large = [Call(0.0, (30,), terms(FLOOR_3, 0.5, "large"))]
    small = [Call(0.0, (30,), terms(FLOOR_3, 2.0, "small"))]
    large += poisson(0.8 * FULL_PER_S, 8, terms(FLOOR_3, 0.5, "large"), seed=1, start=8)
    small += poisson(5 * FULL_PER_S, 8, terms(FLOOR_3, 2.0, "small"), seed=2, start=8)
    simulate(large + small, shares={"large": 9.0, "small": 1.0})
    assert in_time(large) == 1.0
    assert lost(small) < 0.02
    assert in_time(small) > 0.35


@pytest.mark.parametrize("flood", [4.5, 5.5])
def test_those_within_their_share_may_come_to_send_more_while_a_flood_waits(flood: float) -> None:
    quiet = poisson(0.05 * FULL_PER_S, 4, terms(FLOOR_3, 0.5, "large"), seed=3)
    large = poisson(0.8 * FULL_PER_S, 5, terms(FLOOR_3, 0.5, "large"), seed=1, start=4)
    small = poisson(flood * FULL_PER_S, 9, terms(FLOOR_3, 2.0, "small"), seed=2)
    simulate(quiet + large + small, shares={"large": 9.0, "small": 1.0})
    assert in_time(large) == 1.0
    assert mean_depth(large) >= 11
    assert lost(small) < 0.02


def test_one_key_leaves_the_others_of_its_tier_their_part() -> None:
    flood = [Call(0.0, (30,), terms((12,), None), caller="one") for _ in range(300)]
    other = [Call(1.0 + i, (30,), terms((12,), None), caller="two") for i in range(5)]
    simulate(flood + other)
    assert max(call.seconds for call in other) < 0.6 * max(call.seconds for call in flood)


def test_idle_capacity_is_free() -> None:
    """Work without a deadline does not pay later for what it used when nobody else wanted it."""
    alone = poisson(0.8 * FULL_PER_S, 15, terms((12,), None, "bulk"), seed=1)
    later = poisson(10, 10, terms((12,), None, "bulk"), seed=2, start=15)
    hurried = poisson(4 * FULL_PER_S, 10, terms(EXITS, 0.5, "interactive"), seed=3, start=15)
    simulate(alone + later + hurried, shares={"interactive": 1.0, "bulk": 1.0})
    assert max(call.seconds for call in later) < 4
    assert in_time(hurried) > 0.95


def test_without_a_worker_requests_are_refused_at_once() -> None:
    calls = poisson(20, 8, terms(EXITS, 1.0), seed=1)

    def slow_to_start(pool: SimulatedPool) -> None:
        pool.restart_s = 4.0

    def kill_all(pool: SimulatedPool) -> None:
        pool.kill()
        pool.kill()

    simulate(calls, prepare=slow_to_start, at=[(2.0, kill_all)])
    while_none = [call for call in calls if 2.0 < call.at < 6.0]
    assert {call.outcome for call in while_none} == {"unavailable"}
    assert all(call.seconds < 0.005 for call in while_none)
    assert all(call.outcome != "expired" or call.seconds < 1.005 for call in calls)


def hanging_at(number: int) -> Callable[[SimulatedPool], None]:
    """Has the worker of the ``number``-th batch stand still for good."""

    def prepare(pool: SimulatedPool) -> None:
        numbers = count(1)
        pool.hangs = lambda batch: math.inf if next(numbers) == number else 0.0

    return prepare


def test_a_batch_that_hangs_is_run_elsewhere_in_time() -> None:
    calls = poisson(40, 5, terms(EXITS, 1.0), seed=1)
    (replica,) = simulate(calls, prepare=hanging_at(20))
    assert all(call.in_time for call in calls)
    assert replica.pool.lost == 1, "the worker is replaced"


def test_what_an_overdue_batch_may_still_answer_is_not_given_up() -> None:
    """Both workers are late; the one that is free first finds no time left for what the other is about to answer."""
    speed = Speed(noise=0.0)
    ends = {41: 0.99, 42: 0.985}  # by the tokens of the text

    def late(batch: Batch) -> float:
        (row,) = batch.rows
        takes = speed.seconds(Load.of([(len(row.tokens), row.layers)]))
        return ends.pop(len(row.tokens), takes) - takes

    calls = [Call(0.0, (41,), terms([12], 1.0)), Call(0.0, (42,), terms([12], 5.0))]
    simulate(calls, speed=speed, prepare=lambda pool: setattr(pool, "hangs", late))
    assert [call.outcome for call in calls] == ["answered", "answered"]
    assert calls[0].seconds == pytest.approx(0.99, abs=0.005)


def test_who_comes_while_the_only_worker_hangs_is_refused_rather_than_let_expire() -> None:
    """Two seconds until it is replaced: who comes later than a deadline after the batch was due hears so at once."""
    calls = poisson(40, 6, terms(EXITS, 0.5), seed=1)
    simulate(calls, workers=1, prepare=hanging_at(40))
    outcomes = Counter(call.outcome for call in calls)
    assert outcomes["refused"] > outcomes["expired"]
    assert outcomes["expired"] <= 40 * (0.5 + 0.5)


tier = st.tuples(
    st.sets(st.sampled_from(EXITS), min_size=1).map(lambda found: tuple(sorted(found))),
    st.none() | st.floats(0.05, 3.0),
    st.floats(0.1, 10.0),
    st.floats(1, 120),
)


@given(
    st.lists(tier, min_size=1, max_size=4),
    st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=4),
    st.integers(0, 9),
)
@settings(max_examples=25, deadline=None)
def test_whatever_comes_and_whoever_dies_each_is_answered_once_and_by_its_deadline(
    tiers: list[tuple[tuple[int, ...], float | None, float, float]], faults: list[tuple[float, bool]], seed: int
) -> None:
    calls: list[Call] = []
    for i, (exits, deadline_s, _, rate) in enumerate(tiers):
        calls += poisson(rate, 2, terms(exits, deadline_s, f"tier{i}"), seed=seed + i)
    shares = {f"tier{i}": share for i, (_, _, share, _) in enumerate(tiers)}
    (replica,) = simulate(
        calls,
        shares=shares,
        seed=seed,
        speed=Speed(noise=0.2, stall=0.02, stall_s=0.05),
        at=[(at, lambda pool: pool.kill()) for at, _ in faults],
    )
    for call in calls:
        assert call.outcome in ("answered", "refused", "expired", "failed", "unavailable")
        assert call.answers == (call.outcome == "answered")
        if call.outcome == "answered":
            assert call.layers in call.terms.exits
        if call.terms.deadline_s:
            assert call.seconds <= call.terms.deadline_s + 0.005, "nobody waits past a deadline"
        elif not faults:
            assert call.outcome == "answered", "without a deadline nobody is starved or refused"
    assert (replica.scheduler.waiting_tickets, replica.scheduler.waiting_tokens) == (0, 0)
    assert replica.pool.idle == replica.pool.size == 2
