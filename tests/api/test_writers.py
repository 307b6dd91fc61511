"""Large answers that other processes write are the same to the byte, and come whatever becomes of those processes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import httpx
import numpy as np
import orjson
import psutil
import pytest

from strata.app import writers as room
from strata.app.writers import Writers, writers_beside
from tests.conftest import RunningServer, ServerFactory

TEXTS = ["the river", "a bridge over the river and the market", "harbour"] * 100


@pytest.mark.parametrize("shape", [(300, 384), (1000, 384), (20_000, 1)])
def test_what_they_write_is_what_is_written_here(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    rows[0, 0], rows[1, 0] = -1.2345678e-10, np.float32(1e-45)

    async def write() -> None:
        writers = Writers()
        await writers.start(2)
        found = await asyncio.gather(*(writers.json(rows) for _ in range(3)))
        assert set(map(type, found)) == {bytes}
        assert {bytes(each) for each in found} == {orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)}
        assert await writers.json(rows[:5]) is not None
        writers.stop()
        assert await writers.json(rows) is rows

    asyncio.run(write())


def test_what_has_been_written_of_an_answer_is_not_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_QUEUE", 0)  # one of its three parts finds a writer
    rows = np.random.default_rng(0).standard_normal((1000, 384)).astype(np.float32)

    async def write() -> None:
        writers = Writers()
        await writers.start(1)
        found = await writers.json(rows)
        assert isinstance(found, bytes)
        assert found == orjson.dumps(rows, option=orjson.OPT_SERIALIZE_NUMPY)
        writers.stop()

    asyncio.run(write())


def test_a_small_answer_is_written_here() -> None:
    async def write() -> None:
        writers = Writers()
        await writers.start(1)
        few = np.zeros((1, 384), np.float32)
        assert await writers.json(few) is few
        writers.stop()

    asyncio.run(write())


def test_who_gives_up_costs_nobody_an_answer_nor_the_server_a_writer() -> None:
    """What was written for one who has left must not be taken for the next one's answer."""
    rows, others = (np.full((100, 384), value, np.float32) for value in (1, 2))

    async def write() -> None:
        writers = Writers()
        await writers.start(1)
        (writer,) = writers._all
        for _ in range(3):
            works, waits, stays = (asyncio.create_task(writers.json(each)) for each in (rows, rows, others))
            for _ in range(3):
                await asyncio.sleep(0)
            works.cancel()
            waits.cancel()
            assert np.array_equal(_read(await stays), others)
        assert writers._all == {writer}
        writers.stop()

    asyncio.run(write())


def test_what_they_have_in_hand_when_they_are_ended_is_written_here() -> None:
    rows = np.zeros((1000, 384), np.float32)

    async def write() -> None:
        writers = Writers()
        await writers.start(2)
        tasks = [asyncio.create_task(writers.json(rows)) for _ in range(3)]
        for _ in range(3):
            await asyncio.sleep(0)
        for writer in writers._all:
            writer._process.kill()
        writers.stop()
        assert all([await task is rows for task in tasks])

    asyncio.run(write())


def _read(found: bytes | np.ndarray) -> np.ndarray:
    return np.array(orjson.loads(found)) if isinstance(found, bytes) else found


def test_one_that_hangs_is_not_waited_for_and_another_takes_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_PATIENCE_S", 0.1)
    monkeypatch.setattr(room, "_AGAIN_S", 0.2)
    rows = np.zeros((100, 384), np.float32)

    async def write() -> None:
        writers = Writers()
        await writers.start(1)
        (hangs,) = writers._all
        os.kill(hangs.pid, signal.SIGSTOP)
        began = time.monotonic()
        assert all(found is rows for found in await asyncio.gather(*(writers.json(rows) for _ in range(3))))
        assert time.monotonic() - began < 5
        while not isinstance(await writers.json(rows), bytes):
            assert time.monotonic() - began < 20
            await asyncio.sleep(0.05)
        assert not psutil.pid_exists(hangs.pid)
        writers.stop()

    asyncio.run(write())


def test_what_cannot_be_started_is_tried_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the container forbids such memory: it would be said in the log every few seconds."""
    tries = []

    def refused(name: str) -> int:
        tries.append(time.monotonic())
        raise OSError(name)

    monkeypatch.setattr(os, "memfd_create", refused)
    monkeypatch.setattr(room, "_AGAIN_S", 0.02)
    rows = np.zeros((100, 384), np.float32)

    async def write() -> None:
        writers = Writers()
        await writers.start(1)
        assert await writers.json(rows) is rows
        await asyncio.sleep(0.5)
        writers.stop()
        await asyncio.sleep(0.05)

    asyncio.run(write())
    pauses = np.diff(tries)
    assert 2 <= len(pauses) <= 5
    assert (pauses[1:] > 1.5 * pauses[:-1]).all()


def test_there_are_none_where_no_core_is_free() -> None:
    assert [writers_beside(cores) for cores in (0, 1, 2, 6, 14, 200)] == [0, 0, 1, 3, 4, 4]


@pytest.fixture
def server(start_server: ServerFactory, tiny_bundle: Path) -> RunningServer:
    return start_server(tiny_bundle, "--writers", "1")


def test_every_protocol_tells_the_same_numbers_with_a_writer_and_once_it_has_died(server: RunningServer) -> None:
    def vectors(answer: httpx.Response) -> np.ndarray:
        assert answer.status_code == 200
        return np.array(answer.json(), np.float32)

    plain = server.client.post("/embed", json={"inputs": TEXTS}, headers={"Accept": "application/octet-stream"})
    expected = np.frombuffer(plain.content, np.float32).reshape(len(TEXTS), -1)
    assert expected.size > room._FEW
    (writer,) = (
        each for each in psutil.Process(server.process.pid).children() if "strata.app.writer" in each.cmdline()
    )
    assert 'strata_process_resident_bytes{process="writer-0"}' in server.client.get("/metrics").text
    for dies in (True, False):
        np.testing.assert_array_equal(vectors(server.client.post("/embed", json={"inputs": TEXTS})), expected)
        data = server.client.post("/v1/embeddings", json={"input": TEXTS, "model": "strata"}).json()["data"]
        assert [each["index"] for each in data] == list(range(len(TEXTS)))
        np.testing.assert_array_equal(np.array([each["embedding"] for each in data], np.float32), expected)
        body = {"texts": TEXTS, "model": "strata", "input_type": "search_document", "embedding_types": ["float"]}
        answer = server.client.post("/v2/embed", json=body).json()
        assert np.array(answer["embeddings"]["float"], np.float32).shape == expected.shape
        if dies:
            writer.kill()
            server.await_logged("writer_lost")
    assert server.stop() == 0
