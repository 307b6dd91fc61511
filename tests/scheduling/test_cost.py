"""The cost model: right about an engine like itself, and quick to follow one that changes."""

from __future__ import annotations

import numpy as np
import pytest

from strata.app.planning.cost import BatchBounds, CostModel, Load
from strata.loadtest.simulation.engine import Speed


def batches(count: int, seed: int) -> list[Load]:
    rng = np.random.default_rng(seed)
    loads = []
    for _ in range(count):
        rows = [
            (int(n), int(rng.choice([1, 3, 6, 12])))
            for n in np.clip(rng.lognormal(3.3, 0.7, rng.integers(1, 12)), 4, 400)
        ]
        loads.append(Load.of(rows))
    return loads


def model(speed: Speed) -> CostModel:
    cost = CostModel()
    cost.measured(
        [
            (load, speed.seconds(load))
            for load in map(Load.of, ([(16, 1)], [(16, 6)], [(25, 6)] * 8, [(60, 1)] * 3, [(200, 6)]))
        ]
    )
    return cost


def errors(cost: CostModel, speed: Speed, loads: list[Load], seed: int = 0) -> list[float]:
    rng = np.random.default_rng(seed)
    found = []
    for load in loads:
        real = speed.seconds(load) * float(np.exp(0.1 * rng.standard_normal()))
        found.append(abs(cost.costs.seconds(load) - real) / real)
        cost.observe(load, real)
        if cost.unfitted >= 16:
            cost.fit()
    return found


def test_nothing_is_predicted_before_a_measurement() -> None:
    cost = CostModel()
    assert not cost.costs.known
    assert cost.costs.seconds(Load.alike(4, 25, 12)) == 0.0
    cost.observe(Load.alike(4, 25, 12), 0.1)
    assert cost.costs.known
    assert cost.costs.seconds(Load.alike(4, 25, 12)) == pytest.approx(0.1, rel=0.2)


def test_a_short_measurement_at_half_depth_tells_full_depth() -> None:
    speed = Speed()
    cost = model(speed)
    assert all(cost.costs.seconds(load) == pytest.approx(speed.seconds(load), rel=0.1) for load in batches(50, 1))


def test_predictions_are_within_a_quarter_under_steady_load() -> None:
    speed = Speed()
    assert np.median(errors(model(speed), speed, batches(300, 2))) < 0.15


@pytest.mark.parametrize("factor", [0.4, 3.0])
def test_a_machine_that_changes_is_followed_within_fifty_batches(factor: float) -> None:
    speed = Speed()
    changed = Speed(*(factor * part for part in (speed.batch, speed.layer, speed.token, speed.token_layer)))
    cost = model(speed)
    errors(cost, speed, batches(200, 3))
    assert np.median(errors(cost, changed, batches(100, 4))[50:]) < 0.2


def test_another_shape_of_cost_is_learnt() -> None:
    cost = model(Speed())
    flat = Speed(batch=0.02, layer=0.0, token=1e-5, token_layer=1e-5)  # as on a GPU: a batch costs what a row costs
    assert np.median(errors(cost, flat, batches(500, 5))[300:]) < 0.2


def test_one_row_costs_what_it_costs_among_many() -> None:
    cost = model(Speed())
    for bounds in (BatchBounds(512), BatchBounds(512, seconds=0.05, text_tokens=30.0, gap_s=0.003)):
        many = cost.costs.rows(
            np.array([5.0, 30.0, 700.0]), np.array([1.0, 1.0, 9.0]), np.array([12.0, 6.0, 1.0]), bounds
        )
        one = [cost.costs.row(5, 1, 12, bounds), cost.costs.row(30, 1, 6, bounds), cost.costs.row(700, 9, 1, bounds)]
        assert many.tolist() == pytest.approx(one)


def test_many_rows_cost_what_their_batches_take_and_the_gaps_between_them() -> None:
    speed = Speed()
    cost = model(speed)
    bounds = BatchBounds(512, text_tokens=150.0, gap_s=0.002)
    three = speed.seconds(Load.alike(3, 150, 6)) + 0.002  # of 150 tokens no more go into a batch
    assert cost.costs.rows(np.array([150.0]), np.array([1.0]), np.array([6.0]), bounds).item() == pytest.approx(
        three / 3, rel=0.1
    )


def test_a_batch_of_few_texts_shares_its_costs_among_those() -> None:
    speed = Speed()
    cost = model(speed)
    bounds = BatchBounds(512, texts=2, text_tokens=20.0)
    pair = speed.seconds(Load.alike(2, 20, 3))
    assert cost.costs.rows(np.array([20.0]), np.array([1.0]), np.array([3.0]), bounds).item() == pytest.approx(
        pair / 2, rel=0.1
    )
    assert cost.costs.row(20, 1, 3, bounds) == pytest.approx(pair / 2, rel=0.1)


def test_a_stall_is_not_a_trend() -> None:
    speed = Speed()
    cost = model(speed)
    load = Load.alike(4, 25, 12)
    errors(cost, speed, batches(100, 6))
    before = cost.costs.seconds(load)
    cost.observe(load, 60.0)
    assert cost.costs.seconds(load) < 1.5 * before


def test_a_batch_that_has_the_machine_to_itself_is_foretold_apart() -> None:
    speed = Speed()
    cost = model(speed)
    loads = batches(60, 7)
    for load in loads:
        cost.observe(load, 0.5 * speed.seconds(load), alone=True)
    assert cost.costs.alone == pytest.approx(0.5, rel=0.05)
    ratios = [cost.costs.seconds(load) / speed.seconds(load) for load in batches(30, 8)]
    assert np.median(ratios) == pytest.approx(1.0, rel=0.1), "what runs beside others is foretold as before"


def test_warm_up_tells_how_much_faster_one_worker_is_alone() -> None:
    speed, cost = Speed(), CostModel()
    samples = [(load, speed.seconds(load)) for load in batches(20, 9)]
    cost.measured(samples, [(load, 0.6 * seconds) for load, seconds in samples])
    assert cost.costs.alone == pytest.approx(0.6, rel=0.02)
