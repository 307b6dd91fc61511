"""What is learnt from what comes."""

from __future__ import annotations

import numpy as np
import pytest

from strata.app.planning.cost import CostModel
from strata.app.scheduling.learnt import Learnt, Rate, Risen


def rate_after(seconds: float, times: list[float], amount: float = 1.0, rate: Rate | None = None) -> float:
    rate = rate or Rate(times[0])
    for at in times:
        rate.add(amount, at)
    return rate.read(seconds)[0]


@pytest.mark.parametrize("seed", range(5))
def test_a_flow_that_is_new_is_known_before_its_average_has_seen_its_span(seed: int) -> None:
    """Else a tier that floods from its first moment is let in as if the others sent a fifth of what they do."""
    gaps = np.random.default_rng(seed).exponential(1 / 250, 2000)
    times = np.cumsum(gaps)
    for seconds, least in ((0.4, 140), (1.0, 170), (4.0, 190)):
        found = rate_after(seconds, times[times < seconds].tolist())
        assert least < found < 320, (seconds, found)


def test_a_few_that_come_together_are_no_flow() -> None:
    assert rate_after(0.011, [0.0, 0.01]) < 1.5
    assert rate_after(0.1, [0.0], amount=256) <= 128, "one large request is one request"
    assert rate_after(0.2, [0.0, 0.1], amount=256) <= 256


def test_a_flow_that_comes_again_is_new_again() -> None:
    rate = Rate(0.0)
    rate.add(1.0, 0.0)
    again = [1000 + i / 250 for i in range(100)]
    assert 150 < rate_after(1000.4, again, rate=rate) < 300


@pytest.mark.parametrize("before", [[0.0], [i / 12 for i in range(96)]], ids=["one request", "a few a second"])
def test_a_flow_that_rises_is_known_at_once(before: list[float]) -> None:
    """Its averages know of it seconds later: meanwhile another tier was let in as if it sent a quarter of it."""
    gaps = np.random.default_rng(1).exponential(1 / 250, 2000)
    times = 8 + np.cumsum(gaps)
    for seconds, least in ((0.6, 120), (1.0, 150), (2.0, 180)):
        rate = Risen(0.0)
        found = rate_after(8 + seconds, before + times[times < 8 + seconds].tolist(), rate=rate)
        assert least < found < 320, (seconds, found)
        assert rate.read(8 + seconds)[1] > least / 2, "nor is it taken for a moment's"


def test_a_burst_is_no_rise() -> None:
    steady = [i / 100 for i in range(800)]
    burst = [8 + i / 1000 for i in range(100)]
    assert rate_after(8.1, steady + burst, rate=Risen(0.0)) < 180


def test_a_batch_of_late_ones_is_one_reason_to_be_careful_and_a_second_of_them_are_ten() -> None:
    """Twenty texts that one batch kept waiting used to halve the room for everybody who came in the next 20 s."""
    learnt = Learnt(CostModel())
    for _ in range(20):
        learnt.missed("gold", True, 5.0)
    assert learnt.margin("gold", 5.0) == learnt.margin("", 5.0) == pytest.approx(0.02)
    for moment in range(1, 11):
        learnt.missed("gold", True, 5.0 + 0.051 * moment)
    assert 0.2 < learnt.margin("gold", 5.6) < 0.23
    assert learnt.margin("gold", 60.0) < 0.02


def test_how_far_predictions_are_out_is_told_apart_by_how_many_texts_they_are_of_and_soon() -> None:
    learnt = Learnt(CostModel())
    for _ in range(4):
        learnt.answered("app", True, 32, 1.0, 1.0, 4.0)
        learnt.answered("app", True, 1, 1.0, 1.0, 1.0)
    assert learnt.correction("app", True, 40, 1.0) == pytest.approx(4, rel=0.3)
    assert learnt.correction("app", True, 1, 1.0) == 1
    assert learnt.correction("app", False, 40, 1.0) == 1
    assert learnt.correction("app", True, 40, None) == learnt.correction("app", True, 40, 3.0) == 1
    for _ in range(200):
        learnt.answered("app", True, 32, 1.0, 1.0, 4.0)
    learnt.answered("app", True, 32, 1.0, 1.0, 400.0)
    assert learnt.correction("app", True, 32, 1.0) == pytest.approx(4, rel=0.05), "one that was out far is no trend"
