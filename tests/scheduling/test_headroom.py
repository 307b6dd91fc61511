"""How much time is kept free for what nobody foresaw: little in a burst, that ebbs, and much where load lasts."""

from __future__ import annotations

import pytest

from strata.app.planning.cost import BatchBounds, Costs
from strata.app.scheduling.depths import kept_free, kept_free_by_shares
from strata.app.scheduling.learnt import Rate
from strata.app.scheduling.policy import Policy
from strata.app.scheduling.snapshot import Capacity, Expected, Snapshot
from strata.loadtest.simulation.engine import SimulatedPool, Speed
from strata.loadtest.simulation.traffic import Call, simulate
from tests.scheduling.callers import EXITS, FULL_PER_S, mean_depth, poisson, terms


def kind(fast: float, slow: float, tier: str = "app", share: float = 1.0) -> Expected:
    """Texts that take 10 ms of a worker at their floor, and 40 ms at full depth."""
    return Expected(tier, share, 1.0, (fast, slow), 10.0, 1.0, 3, 12, 0, 0.01, 0.04, (fast, slow))


def at(*kinds: Expected, kept: dict[str, float] | None = None) -> Snapshot:
    capacity = Capacity(Costs(token_layer=1e-4), 2, BatchBounds(512, 0.05, None, 10.0))
    return Snapshot(0.0, capacity, Policy(), kinds, kept or {})


def test_more_is_kept_free_the_more_of_the_engine_lasting_load_takes() -> None:
    loads = [at(kind(200 * part, 200 * part)) for part in (0.0, 0.3, 0.6, 0.9, 1.2)]
    assert [load.lasting for load in loads] == pytest.approx([0.0, 0.3, 0.6, 0.9, 1.2])
    parts, seconds = zip(*[kept_free(load) for load in loads], strict=True)
    assert list(parts) == sorted(parts, reverse=True)
    assert list(seconds) == sorted(seconds)
    assert parts[-1] >= Policy().headroom_lasting


def test_a_burst_is_no_load_that_lasts() -> None:
    assert kept_free(at(kind(800, 20))) == kept_free(at(kind(20, 20)))


def test_load_from_the_first_second_on_is_taken_to_last_as_soon_as_it_is_no_chance() -> None:
    rate = Rate(0.0)
    for number in range(100):
        rate.add(1, number / 100)
    assert rate.read(1.0)[1] >= 75


def test_who_keeps_its_depth_counts_with_it_where_another_asks_for_what_is_left() -> None:
    large, kept = kind(40, 40, "large", 0.9), {"large": 12.0}
    assert at(large, kind(15, 15, "small", 0.1), kept=kept).lasting == pytest.approx((0.4 + 0.15) / 2)
    assert at(large, kind(60, 60, "small", 0.1), kept=kept).lasting == pytest.approx((1.6 + 0.6) / 2)


def test_after_who_keeps_its_depth_time_is_kept_free_by_its_share_and_what_it_takes_of_that() -> None:
    small, kept = kind(300, 300, "small", 0.25), {"large": 12.0}
    part, seconds = kept_free_by_shares(at(kind(20, 20, "large", 0.75), small, kept=kept))
    assert part == pytest.approx(1 - 0.75 * 0.55)
    assert seconds == pytest.approx(0.45 / (1 - 0.8 / 1.5))
    assert kept_free_by_shares(at(kind(30, 30, "large", 0.75), small, kept=kept))[1] > seconds
    assert (
        kept_free_by_shares(at(kind(20, 20, "large", 0.75), kind(3000, 3000, "small", 0.25), kept=kept))[1] == seconds
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_a_burst_that_ebbs_is_answered_by_waiting_more_than_by_depth(seed: int) -> None:
    calls = poisson(6, 24, terms(EXITS, 2.0), seed)
    bursts = [c for k in range(4) for c in poisson(6 * FULL_PER_S, 0.5, terms(EXITS, 2.0), seed + 10 + k, 4 + 5 * k)]
    simulate(calls + bursts, seed=seed)
    assert all(call.in_time for call in calls + bursts)
    assert mean_depth(bursts) >= 9


def test_in_lasting_overload_depth_is_no_debt_when_the_engine_becomes_slower() -> None:
    """For two seconds all takes 1.4 times as long, where three layers just carry the load (they miss 44)."""

    def slower(pool: SimulatedPool) -> None:
        pool.speed = Speed(layer=1.4 * Speed().layer, token_layer=1.4 * Speed().token_layer)

    def as_before(pool: SimulatedPool) -> None:
        pool.speed = Speed()

    def missed(exits: tuple[int, ...]) -> int:
        tiers = ((0.3, 0.3, "soon"), (0.4, 1.0, "later"), (0.3, 5.0, "last"))
        calls: list[Call] = []
        for number, (part, deadline_s, name) in enumerate(tiers):
            calls += poisson(part * 5.4 * FULL_PER_S, 12, terms(exits, deadline_s, name), 1 + 10 * number)
        simulate(calls, seed=1, at=[(4.0, slower), (6.0, as_before)])
        return sum(not call.in_time for call in calls)

    assert missed(EXITS[2:]) <= missed((3,)) + 75
