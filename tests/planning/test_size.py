"""`strata plan --size`: the arithmetic, by hand, and the command from a profile in the cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strata.app.cli import main
from strata.app.planning.size import core_rate
from strata.model_store.bundle.bundle import read_manifest
from strata.model_store.bundle.latency import LatencyProfile, Timing, machine

# Layers -> seconds of a batch of 8 texts at 16 and at 64 tokens.
SECONDS = {1: (0.004, 0.010), 2: (0.008, 0.020), 4: (0.016, 0.040)}


@pytest.fixture
def profile(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LatencyProfile:
    """Of the tiny bundle with two threads, in a cache of its own: batches of eight do more than single texts."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    timings = [
        Timing(layers=layers, texts=texts, tokens=tokens, seconds=seconds if texts == 8 else seconds / 2)
        for layers, row in SECONDS.items()
        for tokens, seconds in zip((16, 64), row, strict=True)
        for texts in (1, 8)
    ]
    manifest = read_manifest(tiny_bundle)
    made = LatencyProfile(
        model=manifest.name,
        revision=manifest.revision,
        machine=machine(),
        backend="onnxruntime",
        dtype="float32",
        device="cpu",
        threads=2,
        timings=tuple(timings),
    )
    made.save()
    return made


def test_a_cores_rate_is_that_of_the_best_batch(profile: LatencyProfile) -> None:
    assert core_rate(profile, 4, 16) == pytest.approx(8 / 0.016 / 2), "of two threads"
    assert core_rate(profile, 4, 64) == pytest.approx(8 / 0.040 / 2)
    assert core_rate(profile, 4, 40) == pytest.approx(8 / 0.028 / 2), "half-way between"
    assert core_rate(profile, 4, 112) == pytest.approx(8 / 0.064 / 2), "on along the line"
    assert 8 / 0.016 / 2 < core_rate(profile, 4, 4) <= 4 * 8 / 0.016 / 2


def test_replicas_carry_the_load_at_the_share_of_time_given(
    profile: LatencyProfile, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--model", str(tiny_bundle), "--rate", "1000", "--tokens", "16", "--cores", "4", "--busy", "0.5"]
    assert main(["plan", "--size", *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    by_depth = {row["layers"]: row for row in told["depths"]}
    # Full depth: 250 texts/s of a core, four cores at half of the time: 500 of a replica, two replicas.
    assert by_depth[4]["texts_per_core_s"] == {"16": 250.0, "64": 100.0}
    assert (by_depth[4]["texts_per_replica_s"], by_depth[4]["replicas"]) == (500.0, 2)
    assert (by_depth[1]["replicas"], by_depth[1]["quality"]) == (1, 0.75)
    assert told["outside_the_profile"] is False

    assert main(["plan", "--size", *options]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.rstrip("\n").splitlines())) <= 80
    assert "1000 texts/s of 16 tokens; replicas of 4 cores, busy for 50% of the" in shown
    assert main(["plan", "--size", *options, "--tokens", "100"]) == 0
    assert "100 tokens lie outside what was measured" in capsys.readouterr().out


def test_what_was_not_measured_is_said_with_the_way_on(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    assert main(["plan", "--size", "--model", str(tiny_bundle)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("strata plan: tiny has no latency profile on this machine")
    assert f"strata profile {tiny_bundle}" in error
    assert "pip install 'strata-embed[train]'" in error
    assert main(["plan", "--size", "--model", "nothing"]) == 1
    assert "no model 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--rate", "5"], "--rate: goes with --size alone"),
        (["--size", "--budget-ms", "5"], "--budget-ms: goes without --size, as no server is asked"),
        (["--size", "--url", "127.0.0.1:1"], "--url: goes without --size, as no server is asked"),
    ],
)
def test_options_of_the_other_way_to_ask_are_refused(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", *options]) == 2
    assert capsys.readouterr().err == f"strata plan: {told}\n"
