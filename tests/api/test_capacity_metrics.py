"""Metrics of capacity through the front door: workers, how busy each is, what waits and for how long, the loop."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.conftest import RunningServer, ServerFactory

LONG = "caf\u00e9 river bridge market harbour " * 35


def series(client: httpx.Client) -> dict[str, float]:
    """Samples of /metrics by name and labels."""
    lines = client.get("/metrics").text.splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def busy(found: dict[str, float]) -> float:
    return sum(value for name, value in found.items() if name.startswith("strata_worker_busy_seconds_total"))


@pytest.fixture
def server(start_server: ServerFactory, tiny_bundle: Path) -> RunningServer:
    return start_server(
        tiny_bundle,
        "--workers",
        "2",
        "--threads",
        "1",
        "--max-client-batch-size",
        "4096",
        "--max-queue-texts",
        "9000",
        "--max-queue-tokens",
        "9000000",
    )


@pytest.fixture
def client(server: RunningServer) -> httpx.Client:
    return httpx.Client(base_url=server.url, timeout=60)


def test_capacity_is_told_idle_and_under_load(client: httpx.Client) -> None:
    idle = series(client)
    assert [idle[f"strata_workers_{state}"] for state in ("wanted", "alive", "idle")] == [2, 2, 2]
    assert {f'strata_worker_busy_seconds_total{{worker="{place}"}}' for place in (0, 1)} <= set(idle)
    assert (idle["strata_queue_oldest_seconds"], idle["strata_tokenizer_backlog"]) == (0, 0)
    began, first = time.perf_counter(), busy(series(client))
    with ThreadPoolExecutor(3) as threads:
        jobs = [threads.submit(client.post, "/embed", json={"inputs": [LONG] * 250}) for _ in range(3)]
        seen = []
        while not all(job.done() for job in jobs):
            seen.append(series(client))
            time.sleep(0.02)
        assert {job.result().status_code for job in jobs} == {200}
    took, spent = time.perf_counter() - began, busy(series(client)) - first
    assert min(found["strata_workers_idle"] for found in seen) == 0
    assert 0 < max(found["strata_queue_oldest_seconds"] for found in seen) <= took
    assert max(found["strata_tokenizer_backlog"] for found in seen) >= 1
    assert 0.2 * took < spent <= 2.05 * took, "two workers, busy for most of it"
    assert [busy(found) for found in seen] == sorted(busy(found) for found in seen), "a counter never falls"


def test_the_loop_is_looked_at_ten_times_a_second(client: httpx.Client) -> None:
    before, began = series(client)["strata_event_loop_lag_seconds_count"], time.perf_counter()
    time.sleep(1)
    looks = series(client)["strata_event_loop_lag_seconds_count"] - before
    assert 3 <= looks <= 10.5 * (time.perf_counter() - began) + 1


def test_a_worker_that_is_replaced_keeps_its_place(server: RunningServer, client: httpx.Client) -> None:
    client.post("/embed", json={"inputs": [LONG] * 64}).raise_for_status()
    before = series(client)
    os.kill(server.workers[0], signal.SIGKILL)
    found = before
    for _ in range(400):
        if found["strata_worker_restarts_total"] > before["strata_worker_restarts_total"]:
            break
        time.sleep(0.02)
        found = series(client)
    assert found["strata_workers_alive"] == 2
    assert {n for n in found if "_busy_seconds_total" in n} == {n for n in before if "_busy_seconds_total" in n}
    assert busy(found) >= busy(before)
