"""The simulation: the scenarios of slo on computed engines, and an oracle that knows all arrivals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.app.cli import main
from strata.loadtest.simulation.engine import Speed
from strata.loadtest.simulation.oracle import most_quality
from strata.loadtest.simulation.traffic import Call, simulate
from tests.loadtest.test_trace import TRACES, needs_traces
from tests.scheduling.callers import EXITS, poisson, terms

# A text of ten tokens takes 10 ms a layer.
SPEED = Speed(batch=0.0, layer=0.0, token=0.0, token_layer=1e-3, noise=0.0)


def worth(layers: int) -> float:
    """Of terms that nobody measured, as curves take it."""
    return float((layers / 12) ** 0.25)


def test_alone_everybody_gets_full_depth() -> None:
    calls = [Call(float(i), (10,), terms(EXITS, 0.5)) for i in range(5)]
    assert most_quality(calls, SPEED, workers=1) == pytest.approx(5.0)


def test_no_more_is_answered_than_there_is_time_for() -> None:
    calls = [Call(0.0, (10,), terms((12,), 0.25)) for _ in range(10)]
    found = most_quality(calls, SPEED, workers=1)
    assert 0.25 / 0.12 <= found <= 0.275 / 0.12 + 0.01, "a text of 12 layers takes 120 ms; a slot is rounded up"


def test_equal_texts_share_the_time_by_what_a_layer_is_worth() -> None:
    calls = [Call(0.0, (10,), terms(EXITS, 0.475)) for _ in range(8)]
    found = most_quality(calls, SPEED, workers=1)
    assert 8 * worth(6) <= found <= 8 * worth(8), "0.5 s are 50 layers of a text, 6.25 for each of eight"


@given(st.integers(0, 50), st.floats(0.3, 6), st.integers(1, 3))
@settings(max_examples=10, deadline=None)
def test_no_schedule_is_better_than_the_oracle(seed: int, load: float, workers: int) -> None:
    calls = [
        *poisson(30 * load, 3, terms(EXITS, 0.3), seed=seed),
        *poisson(10 * load, 3, terms((3, 6, 12), 1.5), seed=seed + 1),
    ]
    speed = Speed(noise=0.0)
    simulate(calls, workers=workers, speed=speed, seed=seed)
    reached = sum(worth(call.layers) for call in calls if call.in_time)
    assert reached <= most_quality(calls, speed, workers) + 1e-6


def test_the_scheduler_comes_near_the_oracle() -> None:
    """Of its quality on average over mixed loads; the bar of the design is 0.98."""
    shares = []
    for load in (0.5, 1.0, 2.0, 4.0):
        calls = poisson(60 * load, 5, terms(EXITS, 1.0), seed=int(load))
        simulate(calls)
        reached = sum(worth(call.layers) for call in calls if call.in_time)
        shares.append(reached / most_quality(calls, Speed(), 2))
    assert np.mean(shares) >= 0.96, shares


@needs_traces
def test_the_command_runs_a_scenario_for_each_policy(tmp_path: Path) -> None:
    file = tmp_path / "simulate.json"
    load = ["--scenario", "burst-trace", "--trace", str(TRACES / "AzureLLMInferenceTrace_code.csv"), "--seconds", "20"]
    options = ["--policies", "elastic", "always-4", "--oracle", "--json", str(file)]
    assert main(["loadtest", "simulate", *load, *options]) == 0
    written = json.loads(file.read_text())
    found = written["rounds"]["policies"]
    assert found["elastic"]["all"]["offered"] == found["always-4"]["all"]["offered"]
    assert found["always-4"]["all"]["depth"] == 4
    figures = {figure["name"]: figure["value"] for figure in written["figures"]}
    assert 0.9 < figures["quality, share of an oracle's"] <= 1


@pytest.mark.parametrize("scenario", ["two-tiers", "two-tiers-flood"])
def test_a_tier_within_its_share_keeps_its_time_and_its_depth(scenario: str, tmp_path: Path) -> None:
    file = tmp_path / "simulate.json"
    assert main(["loadtest", "simulate", "--scenario", scenario, "--seconds", "15", "--json", str(file)]) == 0
    large = json.loads(file.read_text())["rounds"]["policies"]["elastic"]["large"]
    assert 1 - large["missed_share"] >= 0.99
    assert large["depth"] >= 11


def test_many_texts_and_single_ones_are_in_time_together_and_deeper_than_at_a_depth_that_fits(tmp_path: Path) -> None:
    file = tmp_path / "simulate.json"
    load = ["--scenario", "many-texts", "--seconds", "20", "--policies", "elastic", "half"]
    assert main(["loadtest", "simulate", *load, "--json", str(file)]) == 0
    found = json.loads(file.read_text())["rounds"]["policies"]
    assert found["elastic"]["all"]["missed_share"] == found["always-6"]["all"]["missed_share"] == 0
    assert found["elastic"]["bulk"]["offered"] == pytest.approx(
        found["elastic"]["interactive"]["offered"] / 32, rel=0.3
    )
    assert found["elastic"]["interactive"]["depth"] >= 10
    assert found["elastic"]["bulk"]["quality"] > found["always-6"]["bulk"]["quality"]
