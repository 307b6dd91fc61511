"""A replayed trace keeps its bursts, and comes out at the mean and below the peak asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from strata.loadtest.arrivals import Times
from strata.loadtest.scenarios import SCENARIOS
from strata.loadtest.schedule import arrival_times
from strata.loadtest.trace import read, scale, window

TRACES = Path(__file__).parents[2].parent / "shared" / "data" / "traces"
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason=f"the Azure traces are not in {TRACES}")


def seeded(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def per_second(times: Times, seconds: int) -> np.ndarray:
    return np.bincount(times.astype(int), minlength=seconds)


def at(counts: list[int]) -> Times:
    """So many arrivals in each second, at even distances."""
    return np.concatenate([second + np.arange(count) / max(count, 1) for second, count in enumerate(counts)])


def test_timestamps_are_read_whatever_their_digits(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:59:59.5000000,374,44\n2023-11-16 19:00:01.2345678,1,1\n2023-11-16 19:00:00,5,5\n"
    )
    assert read(file).tolist() == [0.0, 0.5, 1.734567]


@pytest.mark.parametrize("content", ["WHEN\n2023-11-16 18:00:00\n", "TIMESTAMP\nyesterday\n", "TIMESTAMP\n"])
def test_a_file_that_is_no_trace_is_named(content: str, tmp_path: Path) -> None:
    file = tmp_path / "wrong.csv"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"wrong\.csv"):
        read(file)


def test_the_mean_comes_out_and_no_second_is_above_the_peak() -> None:
    counts = [0, 1, 10, 2, 0, 30, 4, 0, 0, 3]
    times = scale(at(counts), 10, mean=50.0, peak=120.0, random=seeded())
    found = per_second(times, 10)
    assert len(times) == 500
    assert found.max() <= 121  # the rounding of a running sum
    assert found[[0, 4, 7, 8]].sum() == 0
    unclipped = found[[1, 3, 6, 9]] / np.array(counts)[[1, 3, 6, 9]]
    assert unclipped == pytest.approx([unclipped.mean()] * 4, abs=1)
    assert found[2] == found[5] == pytest.approx(120, abs=1)


def test_fewer_arrivals_are_drawn_from_the_real_ones() -> None:
    times = at([50, 10, 80])
    scaled = scale(times, 3, mean=10.0, peak=1000.0, random=seeded())
    assert len(scaled) == 30
    assert np.isin(scaled, times).all()
    assert len(np.unique(scaled)) == 30


def test_more_arrivals_keep_the_real_ones_and_stay_in_their_second() -> None:
    times = np.array([0.2, 2.5, 2.6])
    scaled = scale(times, 3, mean=100.0, peak=250.0, random=seeded())
    assert np.isin(times, scaled).all()
    assert per_second(scaled, 3).tolist() == [100, 0, 200]
    assert len(np.unique(scaled)) == 300  # copies are moved


def test_the_same_seed_gives_the_same_replay() -> None:
    times = at([1, 5, 0, 3])
    assert (scale(times, 4, 20.0, 50.0, seeded(3)) == scale(times, 4, 20.0, 50.0, seeded(3))).all()


def test_a_mean_that_the_peak_does_not_allow_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 40 in a second give this trace a mean of at most 10"):
        scale(at([0, 9, 0, 0]), 4, mean=11.0, peak=40.0, random=seeded())


def test_the_window_is_the_stretch_most_like_the_whole() -> None:
    idle, busy, typical = [0] * 40, [20] * 40, [0, 0, 20, 20] * 10
    times = at(idle + typical + busy)
    found = per_second(window(times, 20), 20)
    assert found.sum() == pytest.approx(200, abs=20)
    assert (per_second(window(times, 20, busy=0.7), 20) > 0).mean() >= 0.7
    with pytest.raises(ValueError, match="no 70 s of the trace"):
        window(times, 70, busy=0.9)
    with pytest.raises(ValueError, match="120 s long"):
        window(times, 121)


@needs_traces
@pytest.mark.parametrize("name", ["code", "conv"])
def test_the_azure_traces_replay_at_this_machines_scale(name: str) -> None:
    file = TRACES / f"AzureLLMInferenceTrace_{name}.csv"
    whole = read(file)
    scenario = SCENARIOS["burst-trace"].with_options(seconds=120)
    times = arrival_times(scenario, 80.0, file, seeded())
    assert len(times) == pytest.approx(0.7 * 80 * 120, abs=1)
    assert per_second(times, 120).max() <= 4 * 80 + 1
    chosen = window(whole, 120)
    assert len(chosen) / 120 == pytest.approx(len(whole) / whole[-1], rel=0.15)
    if name == "code":  # most of its seconds are empty, and the rest are bursts
        assert per_second(times, 120).max() >= 4 * 80 - 1
        assert (per_second(times, 120) == 0).mean() > 0.5


@needs_traces
def test_a_replay_needs_a_trace_and_only_a_replay() -> None:
    with pytest.raises(ValueError, match="--trace: name the CSV"):
        arrival_times(SCENARIOS["burst-trace"], 80.0, None, seeded())
    with pytest.raises(ValueError, match="--scenario burst-trace"):
        arrival_times(SCENARIOS["low"], 80.0, TRACES / "AzureLLMInferenceTrace_code.csv", seeded())
