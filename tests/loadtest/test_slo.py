"""`strata loadtest slo` as a user types it, small, against a real server with tiers."""

from __future__ import annotations

import json
import re
from hashlib import sha256
from pathlib import Path

import pytest

from strata.app.cli import main
from tests.conftest import RunningServer, ServerFactory

_SERVE = ["--backend", "onnxruntime", "--dtype", "float32", "--workers", "1", "--threads", "1"]


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between segments, where the queue is empty anyway."""
    monkeypatch.setattr("strata.loadtest.slo._REST_S", 0.0)


@pytest.fixture(scope="module")
def tiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tiers") / "tiers.toml"
    file.write_text(
        "\n".join(
            f'[[tier]]\nname = "{name}"\ndeadline_ms = {ms}\n'
            f'keys = ["sha256:{sha256(f"loadtest-{name}".encode()).hexdigest()}"]'
            for name, ms in (("fast", 2000), ("slow", 8000))
        )
    )
    return file


def test_policies_meet_the_same_arrivals_and_are_reported(
    tiny_bundle: Path, tiers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    load = ["--scenario", "overload", "--mean", "1", "--capacity", "120", "--seconds", "1", "--rounds", "2"]
    who = ["--tiers", str(tiers), "--mix", "fast=1", "slow=1", "--policies", "full", "static", "elastic"]
    serve = ["--", "--model", str(tiny_bundle), *_SERVE]
    assert main(["loadtest", "slo", *load, *who, "--out", str(tmp_path / "out"), *serve]) == 0
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    policies = written["rounds"]["policies"]
    assert list(policies) == ["always-4", "static-2/4", "elastic"]
    for found in policies.values():
        assert found["all"]["offered"] == 120
        assert [found[tier]["offered"] for tier in ("fast", "slow")] == [
            policies["elastic"][tier]["offered"] for tier in ("fast", "slow")
        ]
        assert found["all"]["errors"] == 0
        assert found["all"]["in_time"] > 0
    assert policies["always-4"]["all"]["depth"] == 4
    assert policies["static-2/4"]["fast"]["depth"] == 2
    assert policies["static-2/4"]["slow"]["depth"] == 4
    names = {figure["name"].strip() for figure in written["figures"]}
    assert {"the generator's own lag, p99", "goodput, times always-4's", "its CPU, share of the server's"} <= names
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json"]
    html = (tmp_path / "out" / "report.html").read_text()
    assert len(re.findall(r"<svg", html)) == 4, "all policies, and each of three by tier"
    assert not re.findall(r"(?:src|href)=[\"'](?!#|data:)", html), "nothing is fetched"
    assert not re.findall(r"#010203|url\((?!#)", html)
    assert html.count("currentColor") > 50, "lines and words take the page's ink, in light and dark"
    for said in (
        "prefers-color-scheme: dark",
        "goodput, times always-4",
        "static-2/4, by tier",
        "in time, % of offered",
    ):
        assert said in html
    assert "120 texts in 1 s: 1.00 x capacity" in capsys.readouterr().out


def test_a_server_without_these_tiers_is_not_measured(
    server: RunningServer, tiers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--tiers", str(tiers), "--mix", "fast=1", "--capacity", "9", "--seconds", "1", "--out", str(tmp_path)]
    assert main(["loadtest", "slo", "--url", server.url, *options]) == 1
    assert "tier fast: the server served it as tier default" in capsys.readouterr().err


def test_the_capacity_is_measured_when_it_is_not_given(
    start_server: ServerFactory, tiny_bundle: Path, tiers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strata.loadtest.slo._WARM_UP_S", 0.2)
    monkeypatch.setattr("strata.loadtest.slo._CAPACITY_S", 0.5)
    server = start_server(tiny_bundle, "--tiers", str(tiers))
    options = ["--tiers", str(tiers), "--mix", "slow=1", "--seconds", "1", "--rounds", "1", "--out", str(tmp_path)]
    assert main(["loadtest", "slo", "--url", server.url, "--scenario", "low", "--policies", "elastic", *options]) == 0
    facts = json.loads((tmp_path / "report.json").read_text())["facts"]
    capacity = float(facts["capacity of full depth"].split()[0])
    assert capacity > 0
    assert float(facts["capacity afterwards"].split()[0]) > 0
    assert abs(int(facts["offered"].split()[0]) - 0.2 * capacity) <= 1


@pytest.mark.parametrize("kind", ["kill", "stop"])
def test_workers_that_die_or_stand_still_lose_nobodys_answer(
    kind: str, tiny_bundle: Path, tiers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strata.loadtest.faults.KILL_EVERY_S", 0.5)
    monkeypatch.setattr("strata.loadtest.faults._STOP_AFTER_S", 0.5)
    monkeypatch.setattr("strata.loadtest.faults.STOP_S", 1.0)
    load = ["--scenario", "overload", "--mean", "1", "--capacity", "90", "--seconds", "2", "--rounds", "1"]
    who = ["--tiers", str(tiers), "--mix", "fast=1", "slow=1x3", "--policies", "elastic", "--faults", kind]
    serve = ["--", "--model", str(tiny_bundle), *_SERVE[:-4], "--workers", "2", "--threads", "1"]
    assert main(["loadtest", "slo", *load, *who, "--out", str(tmp_path), *serve]) == 0
    found = json.loads((tmp_path / "report.json").read_text())["rounds"]["policies"]["elastic"]["all"]
    assert found["offered"] == 120, "of 180 texts half come three together"
    assert (found["errors"], found["late"]) == (0, 0)
    assert found["in_time"] >= 0.97 * found["offered"]


def test_faults_are_only_for_a_server_of_its_own(
    server: RunningServer, tiers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--tiers", str(tiers), "--mix", "fast=1", "--faults", "kill", "--out", str(tmp_path)]
    assert main(["loadtest", "slo", "--url", server.url, *options]) == 1
    assert "--faults" in capsys.readouterr().err
