"""Arrivals have the rate, the burstiness and the shape asked for, and are the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from strata.loadtest.arrivals import Times, busiest, draw
from strata.loadtest.mix import Sender
from strata.loadtest.scenarios import RAMP, SCENARIOS, STEPS
from strata.loadtest.schedule import Schedule, arrival_times


def seeded(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def counts(times: Times, seconds: int) -> list[int]:
    found: list[int] = np.bincount(times.astype(int), minlength=seconds).tolist()
    return found


@pytest.mark.parametrize("cv2", [1.0, 2.0, 4.0, 8.0])
def test_gaps_have_the_mean_and_the_variation_asked_for(cv2: float) -> None:
    times = draw([(0, 100), (500, 100)], cv2, seeded())
    gaps = np.diff(times)
    assert len(times) == 50_000
    assert gaps.mean() == pytest.approx(0.01, rel=0.01)
    assert gaps.var() / gaps.mean() ** 2 == pytest.approx(cv2, rel=0.1)
    # Over time the counts spread as the gaps do.
    spread = np.array(counts(times, 500))
    assert spread.var() / spread.mean() == pytest.approx(cv2, rel=0.3)


def test_times_ascend_inside_the_schedule() -> None:
    times = draw([(0, 50), (20, 50)], 8.0, seeded())
    assert (np.diff(times) >= 0).all()
    assert times[0] >= 0
    assert times[-1] <= 20


def test_the_same_seed_gives_the_same_arrivals_and_another_seed_others() -> None:
    profile = [(0, 50), (10, 50)]
    assert (draw(profile, 4.0, seeded(1)) == draw(profile, 4.0, seeded(1))).all()
    assert (draw(profile, 4.0, seeded(1)) != draw(profile, 4.0, seeded(2))).any()


def test_a_ramp_goes_linearly_up_and_down() -> None:
    times = draw([(at * 100, share * 400) for at, share in RAMP], 1.0, seeded())
    found = np.array(counts(times, 100)).reshape(10, 10).mean(axis=1)
    assert found == pytest.approx([76, 148, 220, 292, 364, 364, 292, 220, 148, 76], rel=0.1)


def test_steps_change_the_rate_at_once() -> None:
    times = draw([(at * 100, share * 1000) for at, share in STEPS], 1.0, seeded())
    found = np.array(counts(times, 100)).reshape(5, 20)
    assert found.mean(axis=1) == pytest.approx([100, 500, 100, 1000, 200], rel=0.03)
    assert found[2, -1] < 200 < 800 < found[3, 0]


def test_a_burstiness_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="cv2 must be above 0"):
        draw([(0, 1), (1, 1)], 0.0, seeded())


def test_the_busiest_window_is_a_rate() -> None:
    assert busiest(np.array([0.1, 1.1, 1.2, 1.3, 2.5])) == 3.0
    assert busiest(np.array([0.1, 1.11, 1.12, 2.5]), 0.1) == 20.0
    assert busiest(np.array([])) == 0.0


@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if not scenario.traced])
def test_scenarios_are_multiples_of_the_capacity(name: str) -> None:
    scenario = SCENARIOS[name]
    times = arrival_times(scenario, 100.0, None, seeded())
    height = scenario.mean or scenario.peak
    assert height is not None
    areas = [(b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in zip(scenario.shape, scenario.shape[1:], strict=False)]
    assert len(times) / scenario.seconds == pytest.approx(100 * height * sum(areas), rel=1e-3)


def test_an_option_the_scenario_has_no_use_for_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--mean.*--seconds, --peak, --cv2"):
        SCENARIOS["ramp"].with_options(mean=1.0)
    with pytest.raises(ValueError, match="--peak: must be above 0"):
        SCENARIOS["ramp"].with_options(peak=-1.0)
    assert SCENARIOS["ramp"].with_options(peak=2.0, mean=None).peak == 2.0


def test_tiers_send_their_share_and_every_text_is_used() -> None:
    senders = [Sender(name, share, 1.0, name) for name, share in (("a", 0.3), ("b", 0.6), ("c", 0.1))]
    schedule = Schedule.draw(10.0, np.sort(seeded().uniform(0, 10, 9000)), senders, 1000, seeded())
    assert np.bincount(schedule.tiers) / 9000 == pytest.approx([0.3, 0.6, 0.1], abs=0.02)
    assert np.bincount(schedule.texts).tolist() == [9] * 1000


def test_who_sends_many_texts_at_once_sends_as_many_fewer_requests() -> None:
    senders = [Sender("a", 0.5, 1.0, "a"), Sender("b", 0.5, 1.0, "b", texts=4)]
    schedule = Schedule.draw(10.0, np.sort(seeded().uniform(0, 10, 5000)), senders, 1000, seeded())
    assert np.bincount(schedule.tiers) == pytest.approx([4000, 1000], rel=0.1)
    sizes = np.where(schedule.tiers == 1, 4, 1)
    assert (np.diff(schedule.texts) % 1000).tolist() == sizes[:-1].tolist(), "each goes on after the one before"
    assert busiest(np.array([0.1, 1.1]), 1.0, np.array([4.0, 1.0])) == 4


def test_parts_hold_every_arrival_once_and_are_cut_where_it_is_quiet() -> None:
    busy = np.sort(np.concatenate([seeded().uniform(a, b, 200) for a, b in ((0, 4), (5, 9), (10, 15))]))
    schedule = Schedule.draw(15.0, busy, [Sender("a", 1.0, 1.0, "a")], 10, seeded())
    parts = schedule.cut(3)
    assert [part.seconds for part in parts] == [
        pytest.approx(4, abs=1),
        pytest.approx(5, abs=1),
        pytest.approx(6, abs=1),
    ]
    assert [len(part.times) for part in parts] == [200, 200, 200]  # no burst is torn
    assert sum(part.seconds for part in parts) == 15
    begins = np.cumsum([0, *(part.seconds for part in parts[:-1])])
    joined = np.concatenate([part.times + begin for part, begin in zip(parts, begins, strict=True)])
    assert joined == pytest.approx(busy)
