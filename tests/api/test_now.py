"""`GET /now`: what it says of the last seconds, and that it ends when nobody looks."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from httpx import Client

from strata.app.telemetry.metrics import Answered, Standing
from strata.app.telemetry.recorder import sample
from tests.conftest import ServerFactory
from tests.endure.conftest import until


def test_a_sample_says_what_was_answered_and_how_things_stand() -> None:
    answers = [Answered("gold", 6, 0.05, 0.04, 0.05 + i / 1000) for i in range(100)] + [
        Answered("bulk", 12, -0.1, 0.2, 0.4),
        Answered("bulk", 12, None, 0.2, 0.4),
    ]
    before, now = Standing(busy_s=1.0), Standing(queue_texts=3, queue_oldest_s=0.0123, workers=(2, 2, 1), busy_s=2.0)
    before.refused["gold"], now.refused["gold"], now.expired["slow"] = 2, 5, 1
    found = sample(answers, before, now, seconds=2.0)
    assert found["requests_per_s"] == 51
    assert found["layers"] == {"6": 100, "12": 2}
    assert (found["p50_ms"], found["p99_ms"], found["predicted_p50_ms"]) == (101.0, 400.0, 40.0)
    assert found["deadline_ms"] == 150.0
    assert found["tiers"]["gold"] == {"answered": 100, "in_time": 100, "refused": 3, "expired": 0, "failed": 0}
    assert found["tiers"]["bulk"] == {"answered": 2, "in_time": 1, "refused": 0, "expired": 0, "failed": 0}
    assert found["tiers"]["slow"]["expired"] == found["expired"] == 1
    assert (found["queue_texts"], found["queue_oldest_ms"], found["refused"]) == (3, 12.3, 3)
    assert found["workers"] == {"wanted": 2, "alive": 2, "idle": 1}
    assert found["busy"] == 0.25


def test_a_second_without_answers_has_no_times() -> None:
    found = sample([], Standing(), Standing(), seconds=1.0)
    assert (found["p50_ms"], found["p99_ms"], found["predicted_p50_ms"], found["deadline_ms"]) == (None,) * 4
    assert found["requests_per_s"] == 0


def test_recording_begins_at_the_first_look(start_server: ServerFactory, tiny_bundle: Path) -> None:
    client = start_server(tiny_bundle).client
    client.post("/embed", json={"inputs": "nobody looks"})
    began = time.time()
    first = client.get("/now").json()
    assert time.time() - began < 2
    assert first["state"] == "ready"
    assert first["model"].startswith("tiny@")
    assert [sample["requests_per_s"] for sample in first["samples"]] == [0]
    for _ in range(5):
        client.post("/embed?layers=2&budget_ms=5000", json={"inputs": "somebody looks"})

    def samples_of_layer_2() -> int:
        samples = client.get("/now?seconds=30").json()["samples"]
        return sum(sample["layers"].get("2", 0) for sample in samples)

    until(lambda: samples_of_layer_2() == 5, 20)
    samples = client.get("/now?seconds=30").json()["samples"]
    assert len(samples) >= 2
    assert sum(sample["tiers"].get("default", {}).get("in_time", 0) for sample in samples) == 5
    assert [sample["at"] for sample in samples] == sorted(sample["at"] for sample in samples)
    answered = next(sample for sample in samples if sample["layers"])
    assert 0 < answered["p50_ms"] <= answered["p99_ms"] < 5000
    assert answered["deadline_ms"] == pytest.approx(5000, abs=1)
    assert len(client.get("/now?seconds=1").json()["samples"]) == 1


def test_the_window_has_bounds(client: Client) -> None:
    answer = client.get("/now?seconds=601")
    assert answer.status_code == 422
    assert "`seconds` must be between 1 and 600" in answer.text
