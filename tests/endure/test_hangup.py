"""SIGHUP to everybody: a reload, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import SMALL, STRATA, RunningServer, ServerFactory
from tests.endure.conftest import until

TIERS = '[[tier]]\nname = "one"\nanonymous = true\n'


@pytest.fixture
def tiers(tmp_path: Path) -> Path:
    path = tmp_path / "tiers.toml"
    path.write_text(TIERS)
    return path


def everybody(server: RunningServer) -> list[int]:
    return [server.process.pid, *server.hosts, *server.workers]


def test_a_hangup_of_the_whole_group_reloads_the_tiers_and_ends_nothing(
    start_server: ServerFactory, tiny_bundle: Path, tiers: Path
) -> None:
    server = start_server(tiny_bundle, "--tiers", str(tiers), "--workers", "3")
    before = everybody(server)
    assert len(before) == 5
    tiers.write_text(TIERS.replace("one", "two"))
    for pid in before:
        os.kill(pid, signal.SIGHUP)
    server.await_logged("tiers_reloaded tiers=two")
    assert server.client.get("/info").json()["tiers"][0]["name"] == "two"
    assert everybody(server) == before
    assert "engine_worker_lost" not in server.text()


def test_a_hangup_before_it_is_ready_is_kept(start_server: ServerFactory, tiny_bundle: Path, tiers: Path) -> None:
    server = start_server(tiny_bundle, "--tiers", str(tiers), ready=False)
    server.process.send_signal(signal.SIGHUP)
    server.await_ready()
    server.await_logged("tiers_reloaded")


def test_a_hangup_in_the_first_moment_is_kept_too(tiny_bundle: Path, tiers: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [*STRATA, "serve", "--model", str(tiny_bundle), "--port", "0", "--tiers", str(tiers), *SMALL],
            stderr=sink,
            start_new_session=True,
        )
    try:
        # As soon as it looks out for signals, and before it listens.
        caught = 1 << (signal.SIGHUP - 1)
        until(
            lambda: int(Path(f"/proc/{process.pid}/status").read_text().split("SigCgt:")[1].split()[0], 16) & caught, 30
        )
        for _ in range(10):
            os.killpg(process.pid, signal.SIGHUP)
            time.sleep(0.05)
        until(lambda: "tiers_reloaded" in log.read_text(), 30)
        until(lambda: " ready " in log.read_text(), 30)
    finally:
        process.terminate()
        assert process.wait(timeout=20) == 0, log.read_text()


def test_without_tiers_a_hangup_is_told_what_it_would_do(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle)
    server.process.send_signal(signal.SIGHUP)
    server.await_logged("nothing_to_reload .*--tiers")


def test_workers_that_die_together_are_one_event(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, "--workers", "9")
    assert len(server.workers) == 9
    for pid in server.workers:
        os.kill(pid, signal.SIGKILL)
    until(lambda: server.text().count("engine_worker_started") == 9, 30)
    assert server.client.post("/embed", json={"inputs": "river"}).status_code == 200
    assert "engine_dead" not in server.text()
