"""What can go wrong with the engine, done to a running server: an answer or a reason, never a hang, never NaN."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import shutil
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest

from strata.app.engine.batch import Batch, Row
from strata.app.engine.options import EngineOptions
from strata.app.engine.pool import EnginePool
from tests.conftest import RunningServer, ServerFactory
from tests.endure.conftest import series, until
from tests.model_store.folders import Tensors, edit_tensors, resealed

HEAVY = {"inputs": ["river bread coffee window " * 10] * 250}  # a second or so for one small worker
HANGS_S = 2.0  # with a batch that should take milliseconds, after which a worker is replaced


def embed(server: RunningServer, body: object, path: str = "/embed") -> httpx.Response:
    return server.client.post(path, json=body)


def spoilt(bundle: Path, folder: Path, change: Callable[[Tensors], None]) -> Path:
    """A copy of the bundle with tensors changed, its checksums brought up to date."""
    copy = Path(shutil.copytree(bundle, folder / "spoilt"))

    def edit(tensors: Tensors) -> Tensors:
        change(tensors)
        return tensors

    edit_tensors(copy / "model.safetensors", edit)
    resealed(copy)
    return copy


def test_a_text_whose_vector_is_nan_fails_alone_with_the_reason(
    start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path
) -> None:
    (token,) = _ids(tiny_bundle, "mountain")

    def one_word(tensors: Tensors) -> None:
        tensors["embeddings.word_embeddings.weight"][token, 3] = float("nan")

    server = start_server(spoilt(tiny_bundle, tmp_path, one_word))
    with ThreadPoolExecutor(16) as threads:
        sound = [threads.submit(embed, server, {"inputs": ["bread", "coffee window"]}) for _ in range(30)]
        sick = [threads.submit(embed, server, {"inputs": ["bread", "mountain"]}) for _ in range(4)]
        openai = threads.submit(embed, server, {"input": "mountain"}, "/v1/embeddings")
    for answer in (future.result() for future in sound):
        assert answer.status_code == 200
        assert np.isfinite(np.array(answer.json(), dtype=float)).all()
    for answer in (future.result() for future in sick):
        assert answer.status_code == 424
        assert "NaN" in answer.json()["error"]
    assert openai.result().status_code == 500
    assert "NaN" in openai.result().json()["error"]["message"]
    assert server.client.get("/ready").status_code == 200
    assert series(server, "strata_worker_restarts_total") == 0


@pytest.mark.parametrize("backend", ["onnxruntime", "auto"])
def test_weights_of_nan_are_refused_at_start(
    start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path, backend: str
) -> None:
    def one_layer(tensors: Tensors) -> None:
        tensors["encoder.layer.2.output.dense.weight"][0, 0] = float("nan")

    dtype = "float32" if backend == "onnxruntime" else "auto"
    sick = spoilt(tiny_bundle, tmp_path, one_layer)
    server = start_server(sick, "--backend", backend, "--dtype", dtype, ready=False)
    assert server.process.wait(timeout=120) == 1
    assert re.search("dead.*layer [34] holds NaN", server.text()), server.text()


def test_workers_killed_again_and_again_lose_no_request(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, "--workers", "2")

    def restarted(times: int) -> bool:
        """Both are there again: of workers that die together one is counted."""
        return series(server, "strata_worker_restarts_total") == times and series(server, "strata_workers_alive") == 2

    with ThreadPoolExecutor(8) as threads:
        requests = [threads.submit(embed, server, {**HEAVY, "layers": 1 + i % 2}) for i in range(12)]
        for killed in range(4):
            time.sleep(0.3)
            until(partial(restarted, killed), 20)
            os.kill(server.workers[0], signal.SIGKILL)
        assert [request.result().status_code for request in requests] == [200] * 12
    server.await_logged(r"(?s)(engine_worker_started.*){4}")  # the last may come after the last answer
    assert series(server, "strata_worker_restarts_total") == 4


def test_a_hung_worker_is_replaced_and_its_batch_run_again_or_refused(
    start_server: ServerFactory, tiny_bundle: Path
) -> None:
    server = start_server(tiny_bundle)
    (hung,) = server.workers
    os.kill(hung, signal.SIGSTOP)
    began = time.monotonic()
    with ThreadPoolExecutor(4) as threads:
        stuck = threads.submit(embed, server, {"inputs": "river"})
        time.sleep(0.3)  # it is with the engine
        patient = threads.submit(embed, server, {"inputs": "bread"})
        hurried = threads.submit(embed, server, {"inputs": "coffee"}, "/embed?budget_ms=400")
        assert hurried.result().status_code in (503, 504)
        assert time.monotonic() - began < HANGS_S, "what has a deadline is told by then"
        assert server.client.get("/health").status_code == 200
        assert (stuck.result().status_code, patient.result().status_code) == (200, 200)
    assert HANGS_S - 0.5 < time.monotonic() - began < HANGS_S + 8
    assert not Path(f"/proc/{hung}").exists()
    assert f"no answer from engine worker {hung}" in server.text()
    server.await_ready()


def test_a_hung_host_is_replaced_when_a_worker_is_needed(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strata.app.engine.link._FORK_S", 1.0)

    async def main() -> None:
        pool = EnginePool(tiny_bundle, EngineOptions("onnxruntime", "float32", workers=1, threads=1))
        await pool.start()
        try:
            pids = pool.pids
            os.kill(pids["engine-host"], signal.SIGSTOP)
            os.kill(pids["engine-worker-0"], signal.SIGKILL)
            async with asyncio.timeout(30):
                while pool.status == "ready":
                    await asyncio.sleep(0.01)
                while not pool.idle:
                    await asyncio.sleep(0.01)
            assert not set(pids.values()) & set(pool.pids.values())
            assert (await pool.run(Batch([Row(np.arange(5, 9, dtype=np.int32), 4, 32)]))).layers == [4]
        finally:
            await pool.stop()

    asyncio.run(main())


def test_a_batch_without_memory_fails_with_a_reason_or_is_run_elsewhere(
    start_server: ServerFactory, tiny_bundle: Path
) -> None:
    server = start_server(tiny_bundle, "--max-batch-tokens", "40000")
    (worker,) = server.workers
    # From now on the worker gets no page more than it has.
    resource.prlimit(worker, resource.RLIMIT_AS, (1 << 20, resource.RLIM_INFINITY))
    answer = embed(server, {"inputs": [[7] * 160] * 200})
    restarts = series(server, "strata_worker_restarts_total")
    assert answer.status_code in (200, 424)
    if answer.status_code == 424:
        assert len(answer.json()["error"]) > 5
    assert answer.status_code == 424 or restarts >= 1, "the limit was not felt"
    for pid in server.workers:
        resource.prlimit(pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    server.await_ready()
    assert embed(server, {"inputs": [[7] * 160] * 200}).status_code == 200


def test_an_engine_that_keeps_dying_ends_the_server_and_nobody_waits_in_vain(
    start_server: ServerFactory, tiny_bundle: Path
) -> None:
    apart = "from strata.app.engine import pool; pool._TOGETHER_S = 0.2"  # of two deaths, 1 s otherwise
    server = start_server(tiny_bundle, first=apart)
    with ThreadPoolExecutor(4) as threads:
        waiting = [threads.submit(embed, server, HEAVY) for _ in range(4)]
        time.sleep(0.3)
        deadline = time.monotonic() + 30
        while server.process.poll() is None and time.monotonic() < deadline:
            for pid in server.workers:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        for request in waiting:
            try:
                assert request.result(timeout=10).status_code in (200, 424, 503)
            except httpx.TransportError:
                raise AssertionError("a request was broken off without an answer") from None
    assert server.process.wait(timeout=10) == 1
    assert "workers died within" in server.text()


def test_readiness_tells_while_no_worker_lives(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle)
    (host,) = server.hosts
    os.kill(host, signal.SIGSTOP)  # so that the next worker has to wait for it
    os.kill(server.workers[0], signal.SIGKILL)
    until(lambda: server.client.get("/ready").status_code == 503, 5)
    assert "being replaced" in server.client.get("/ready").json()["error"]
    assert server.client.get("/health").status_code == 200
    os.kill(host, signal.SIGCONT)
    server.await_ready()
    assert embed(server, {"inputs": "river"}).status_code == 200


def _ids(bundle: Path, word: str) -> list[int]:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(bundle / "tokenizer.json")).encode(word, add_special_tokens=False).ids
