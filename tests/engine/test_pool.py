"""The engine pool: workers share one copy of the weights, and a dead one is replaced."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from strata.app.engine import link
from strata.app.engine.batch import Batch, Row
from strata.app.engine.link import BatchFailed, EngineError, HostLink
from strata.app.engine.options import EngineOptions
from strata.app.engine.pool import EnginePool
from strata.app.planning.cost import CostModel
from strata.app.planning.plan import Terms
from strata.app.scheduling.errors import EngineFailure, NotServing, Overloaded
from strata.app.scheduling.limits import Limits
from strata.app.scheduling.result import Answer
from strata.app.scheduling.scheduler import Scheduler
from strata.app.telemetry.metrics import Metrics
from strata.model_store.bundle.bundle import read_manifest, write_manifest
from strata.model_store.bundle.registry import DEFAULT, find

SMALL = EngineOptions(backend="onnxruntime", dtype="float32", workers=2, threads=1)
IDS = np.arange(5, 25, dtype=np.int32)
NO_SUCH_TOKEN = np.array([5, 2**30], np.int32)
TERMS = Terms(exits=(4,), dim=32, quality=(None,))


def with_pool(bundle: Path, options: EngineOptions, use: Callable[[EnginePool], Awaitable[None]]) -> None:
    async def main() -> None:
        pool = EnginePool(bundle, options)
        await pool.start()
        try:
            await use(pool)
        finally:
            await pool.stop()

    asyncio.run(main())


async def until(condition: Callable[[], bool], seconds: float, every_s: float = 0.005) -> float:
    began = time.perf_counter()
    while not condition():
        assert time.perf_counter() - began < seconds
        await asyncio.sleep(every_s)
    return time.perf_counter() - began


def test_the_front_has_the_cores_before_the_workers_do(tiny_bundle: Path) -> None:
    async def use(pool: EnginePool) -> None:
        nice = {role: os.getpriority(os.PRIO_PROCESS, pid) for role, pid in pool.pids.items()}
        own = os.getpriority(os.PRIO_PROCESS, 0)
        assert nice == {"engine-host": own, "engine-worker-0": own + 5, "engine-worker-1": own + 5}

    with_pool(tiny_bundle, SMALL, use)


def test_a_killed_worker_is_replaced_within_three_seconds(tiny_bundle: Path) -> None:
    async def use(pool: EnginePool) -> None:
        killed = pool.pids["engine-worker-0"]
        os.kill(killed, signal.SIGKILL)
        await until(lambda: killed not in pool.pids.values(), 1)
        assert pool.status == "ready", "the other worker goes on"
        await until(lambda: pool.idle == 2, 3)
        assert (await pool.run(Batch([Row(IDS, 2, 16)]))).layers == [2]

    with_pool(tiny_bundle, SMALL, use)


def test_a_killed_host_does_not_stop_its_workers_and_is_replaced(tiny_bundle: Path) -> None:
    async def use(pool: EnginePool) -> None:
        host = pool.pids["engine-host"]
        os.kill(host, signal.SIGKILL)
        await asyncio.sleep(0.1)
        assert (await pool.run(Batch([Row(IDS, 4, 32)]))).layers == [4]
        await until(lambda: pool.pids["engine-host"] != host, 10)
        killed = pool.pids["engine-worker-0"]
        os.kill(killed, signal.SIGKILL)
        await until(lambda: killed not in pool.pids.values() and pool.idle == 2, 3)

    with_pool(tiny_bundle, SMALL, use)


def test_an_engine_that_cannot_be_started_again_is_given_up(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strata.app.engine.pool._DOWN_S", 1.0)

    async def use(pool: EnginePool) -> None:
        scheduler = Scheduler(pool, Limits(max_queue_texts=30_000), Metrics(), CostModel(), layers=4)

        def no_memory(*_: object) -> None:
            raise OSError("Cannot allocate memory")

        monkeypatch.setattr("strata.app.engine.pool.HostLink.start", no_memory)
        waiting = asyncio.ensure_future(scheduler.submit([IDS] * 20_000, TERMS, normalize=True))
        await until(lambda: scheduler.waiting_tickets > 0, 3)
        for pid in pool.pids.values():
            os.kill(pid, signal.SIGKILL)
        await until(lambda: pool.size == 0, 3)
        with pytest.raises(NotServing, match="being replaced"):
            await scheduler.submit([IDS], TERMS, normalize=True)
        await until(lambda: pool.status == "dead", 10)
        with pytest.raises(EngineFailure, match="dead"):
            await asyncio.wait_for(waiting, 1)

    with_pool(tiny_bundle, SMALL, use)


def test_a_batch_in_hand_when_the_engine_is_given_up_hears_of_it(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strata.app.engine.pool._DEATHS", 1)

    async def use(pool: EnginePool) -> None:
        scheduler = Scheduler(pool, Limits(), Metrics(), CostModel(), layers=4)
        worker = pool.pids["engine-worker-0"]
        os.kill(worker, signal.SIGSTOP)
        running = asyncio.ensure_future(scheduler.submit([IDS], TERMS, normalize=True))
        await until(lambda: pool.idle == 0, 3)
        os.kill(worker, signal.SIGKILL)
        with pytest.raises(EngineFailure, match="the engine is dead"):
            await asyncio.wait_for(running, 3)
        assert scheduler.waiting_tickets == 0

    with_pool(tiny_bundle, replace(SMALL, workers=1), use)


def test_a_bundle_that_was_replaced_is_not_taken_for_the_one_that_is_served(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("strata.app.engine.pool._DOWN_S", 0.5)
    served = tmp_path / "served"
    shutil.copytree(tiny_bundle, served)
    told: list[object] = []

    async def use(pool: EnginePool) -> None:
        pool.on_event = lambda name, **facts: told.append(facts.get("reason"))
        other = read_manifest(served)
        write_manifest(served, other.model_copy(update={"prompts": {"query": "other "}}))
        assert read_manifest(served).revision != other.revision
        for pid in pool.pids.values():
            os.kill(pid, signal.SIGKILL)
        await until(lambda: pool.status == "dead", 10)

    with_pool(served, SMALL, use)
    assert any("another model" in str(reason) for reason in told)


def test_a_batch_that_raises_fails_alone(tiny_bundle: Path) -> None:
    async def use(pool: EnginePool) -> None:
        pids = pool.pids
        with pytest.raises(BatchFailed, match="index"):
            await pool.run(Batch([Row(NO_SUCH_TOKEN, 1, 8)]))
        assert (await pool.run(Batch([Row(IDS, 1, 8)]))).layers == [1]
        assert pool.pids == pids

    with_pool(tiny_bundle, SMALL, use)


def test_only_the_request_at_fault_fails(tiny_bundle: Path) -> None:
    """Promise 7: what shared its batch is run again and answered."""

    async def use(pool: EnginePool) -> None:
        scheduler = Scheduler(pool, Limits(), Metrics(), CostModel(), 4)
        texts = [[IDS], [NO_SUCH_TOKEN], [IDS[:3], IDS]]
        answers = await asyncio.gather(
            *(scheduler.submit(t, TERMS, normalize=True) for t in texts), return_exceptions=True
        )
        assert isinstance(answers[1], EngineFailure)
        first, _, last = answers
        assert isinstance(first, Answer)
        assert isinstance(last, Answer)
        assert [first.vectors.shape, last.vectors.shape] == [(1, 32), (2, 32)]
        assert scheduler.waiting_tickets == scheduler.waiting_tokens == 0

    with_pool(tiny_bundle, SMALL, use)


def test_killed_workers_lose_no_request(tiny_bundle: Path) -> None:
    """Promise 4: a batch whose worker died is run again."""

    async def use(pool: EnginePool) -> None:
        scheduler = Scheduler(pool, Limits(), Metrics(), CostModel(), 4)
        requests = [asyncio.create_task(scheduler.submit([IDS] * 50, TERMS, normalize=True)) for _ in range(20)]
        await asyncio.sleep(0.01)
        os.kill(pool.pids["engine-worker-0"], signal.SIGKILL)
        answers = await asyncio.gather(*requests)
        for answer in answers:
            np.testing.assert_allclose(answer.vectors, answers[0].vectors, atol=1e-5)

    with_pool(tiny_bundle, SMALL, use)


def test_a_worker_that_is_dead_when_a_batch_is_sent_to_it_loses_nothing(tiny_bundle: Path) -> None:
    async def use(pool: EnginePool) -> None:
        scheduler = Scheduler(pool, Limits(), Metrics(), CostModel(), 4)
        for role, pid in pool.pids.items():
            if role != "engine-host":
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)  # this process has not heard of it: its loop stood still
        answer = await asyncio.wait_for(scheduler.submit([IDS], TERMS, normalize=True), 10)
        assert answer.layers == 4
        await until(lambda: pool.idle == 2, 3)

    with_pool(tiny_bundle, SMALL, use)


def test_an_error_of_any_kind_is_answered(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 4: not only the errors that were foreseen."""

    async def use(pool: EnginePool) -> None:
        def garbled(payload: bytes) -> None:
            raise ValueError("garbled")

        monkeypatch.setattr("strata.app.engine.link.decode_result", garbled)
        with pytest.raises(EngineFailure, match="garbled"):
            await asyncio.wait_for(
                Scheduler(pool, Limits(), Metrics(), CostModel(), 4).submit([IDS], TERMS, normalize=True), 10
            )

    with_pool(tiny_bundle, SMALL, use)


def test_a_full_queue_refuses_a_request_whole_and_says_when(tiny_bundle: Path) -> None:
    async def use(pool: EnginePool) -> None:
        scheduler = Scheduler(pool, Limits(max_queue_texts=10, max_queue_tokens=1000), Metrics(), CostModel(), 4)
        accepted = asyncio.create_task(scheduler.submit([IDS] * 8, TERMS, normalize=True))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refusal:
            await scheduler.submit([IDS] * 3, TERMS, normalize=True)
        assert refusal.value.retry_after_s > 0
        assert scheduler.waiting_tickets <= 8
        assert (await accepted).vectors.shape == (8, 32)

    with_pool(tiny_bundle, SMALL, use)


def test_a_cancelled_request_leaves_the_queue(tiny_bundle: Path) -> None:
    async def use(pool: EnginePool) -> None:
        scheduler = Scheduler(pool, Limits(max_batch_tokens=20), Metrics(), CostModel(), 4)
        gone = asyncio.create_task(scheduler.submit([IDS] * 500, TERMS, normalize=True))
        await asyncio.sleep(0.01)
        waiting = scheduler.waiting_tickets
        gone.cancel()
        await asyncio.sleep(0)
        assert waiting > 0
        assert scheduler.waiting_tickets == scheduler.waiting_tokens == 0
        assert (await scheduler.submit([IDS], TERMS, normalize=True)).layers == 4

    with_pool(tiny_bundle, SMALL, use)


def test_a_text_longer_than_the_token_budget_runs(tiny_bundle: Path) -> None:
    async def use(pool: EnginePool) -> None:
        scheduler = Scheduler(pool, Limits(max_batch_tokens=16), Metrics(), CostModel(), 4)
        answer = await asyncio.wait_for(scheduler.submit([np.resize(IDS, 150)], TERMS, normalize=True), 10)
        assert answer.tokens == 150

    with_pool(tiny_bundle, SMALL, use)


def test_a_model_that_cannot_be_run_is_refused_with_a_reason(tiny_bundle: Path) -> None:
    async def start() -> None:
        await EnginePool(tiny_bundle, EngineOptions(backend="torch", dtype="int8")).start()

    with pytest.raises(EngineError, match="int8 is not available"):
        asyncio.run(start())


def private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("Private_Dirty", "Private_Clean")))


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_memory_does_not_grow_with_exits_or_workers(backend: str) -> None:
    """Promise 6: one copy of the weights. fp32 blocks of the default bundle are 85 MB."""

    async def use(pool: EnginePool) -> None:
        workers = [pid for role, pid in pool.pids.items() if "worker" in role]
        ids = np.resize(IDS, 42)  # twelve of them are a full batch of the 512 tokens that every size is set up for

        async def run_at(exits: list[int], times: int) -> None:
            for _ in range(times):
                busy = [pool.run(Batch([Row(ids, e, 384) for e in exits])) for _ in range(pool.idle)]
                await asyncio.gather(*busy)

        for rows in range(12, 0, -1):  # each number of rows has memory of its own, which is not what exits cost
            await run_at([12] * rows, 1)
        one_exit = sum(map(private_bytes, workers))
        await run_at(list(range(1, 13)), 3)
        all_exits = sum(map(private_bytes, workers))
        # The two allocators keep 2 to 11 MB more, and 3 of it also by a batch of one exit that is run again.
        assert all_exits - one_exit < 20 << 20, "of two workers, whose heads alone would be 40 MB"
        for pid in workers:
            assert private_bytes(pid) < 60 << 20, "a worker's own pages, far below a copy of the weights"

    with_pool(find(DEFAULT), EngineOptions(backend=backend, dtype="float32", workers=2, threads=1), use)


def test_a_batch_that_cannot_be_sent_fails_alone(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(pool: EnginePool) -> None:
        with monkeypatch.context() as broken:
            broken.setattr(link, "encode_batch", lambda batch: bytes(batch))
            with pytest.raises(BatchFailed, match="TypeError"):
                await pool.run(Batch([Row(IDS, 1, 32)]))
        assert pool.idle == 1
        (vector,) = (await pool.run(Batch([Row(IDS, 1, 32)]))).vectors
        assert len(vector) == 32

    with_pool(tiny_bundle, EngineOptions(backend="onnxruntime", workers=1, threads=1), use)


def test_what_every_size_of_a_batch_needs_is_shared_by_the_workers() -> None:
    """oneDNN keeps 2.4 MB for each number of lines: 24 of them up to 512 tokens, set up before the fork."""

    async def use(pool: EnginePool) -> None:
        (worker,) = [pid for role, pid in pool.pids.items() if "worker" in role]
        for tokens in (*range(32, 512, 96), 512):  # whatever a few batches hold on to: buffers, pages written to
            await pool.run(Batch([Row(IDS[:16], 1, 384)] * (tokens // 16)))
        before = private_bytes(worker)
        for tokens in range(16, 512, 16):
            await pool.run(Batch([Row(IDS[:16], 1, 384)] * (tokens // 16)))
        assert private_bytes(worker) - before < 20 << 20

    with_pool(find(DEFAULT), EngineOptions(backend="torch", dtype="float32", workers=1, threads=1), use)


def test_a_dtype_that_cannot_be_loaded_leaves_the_others_of_its_backend(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = HostLink.load

    async def without_bfloat16(self: HostLink, dtypes: list[str], *, warm: bool = False) -> None:
        if "bfloat16" in dtypes:
            raise EngineError("this machine has no bfloat16")
        await load(self, dtypes, warm=warm)

    monkeypatch.setattr(HostLink, "load", without_bfloat16)

    async def use(pool: EnginePool) -> None:
        assert pool.choice is not None
        assert (pool.choice.backend, pool.choice.dtype) == ("torch", "float32")
        found = {candidate.dtype: candidate for candidate in pool.choice.candidates}
        assert found["float32"].seconds is not None
        assert found["bfloat16"].seconds is None
        assert "no bfloat16" in found["bfloat16"].note

    with_pool(tiny_bundle, EngineOptions(backend="torch", dtype="auto", device="cpu", workers=1, threads=1), use)


def test_a_worker_hears_how_its_own_children_end(tiny_bundle: Path) -> None:
    """The host leaves its workers to the kernel to reap; a worker that inherited that would take any compiler's failure
    for success."""

    async def use(pool: EnginePool) -> None:
        status = Path(f"/proc/{pool.pids['engine-worker-0']}/status").read_text()
        ignored = re.search(r"SigIgn:\s*(\w+)", status)
        assert ignored
        assert not int(ignored[1], 16) & 1 << signal.SIGCHLD - 1

    with_pool(tiny_bundle, SMALL, use)
