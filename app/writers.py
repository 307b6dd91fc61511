"""Large answers turned into JSON by processes of their own, the writers, where cores are free.

Writing JSON is what takes the front longest: 8 us a text, during which it answers nobody else.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine
from mmap import mmap
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from strata.app.engine.memory import resident_bytes
from strata.app.engine.signals import start_ignoring_signals
from strata.app.safe_path import module_command, safe_environment
from strata.app.telemetry import logs

# Rows and their JSON are in memory that front and writer share; the socket between them carries only sizes.
ROWS = struct.Struct("=II")  # to a writer: how many rows, of how many float32 each
ANSWER = struct.Struct("=I")  # from it: bytes of JSON. The first answer, 0, says that it can write
_FEW = 8192  # numbers up to which the front writes them itself: the way to a writer and back takes 100 us
_PART = 1 << 17  # numbers that a writer is given at once
SHARED_BYTES = 20 * _PART  # a number with its brackets takes less than 20 bytes: `[-1.2345678e-10],`
_READY_S = 20.0  # the most that a writer takes to start
_PATIENCE_S = 1.0  # the most that a part takes; usual are 10 ms
_AGAIN_S, _LATER_S = 10.0, 600.0  # before a writer that died is replaced: at first, and at most if that dies, too
_QUEUE = 4  # answers that may wait for each writer; beyond that the front is quicker
_MOST = 4  # writers by default: one writes as fast as the front does all the rest


def writers_beside(cores: int) -> int:
    """How many writers to start by default where ``cores`` are free; 0 where shared memory has no descriptor."""
    return max(0, min(_MOST, cores // 2)) if hasattr(os, "memfd_create") else 0


class Writers:
    """The writer processes: hands them rows, and replaces one that dies.

    Where there is no writer, or one dies with rows in hand, the front writes them itself.
    """

    def __init__(self) -> None:
        self._free: list[_Writer] = []
        self._all: set[_Writer] = set()
        self._waiting: deque[asyncio.Future[_Writer | None]] = deque()  # for a free writer; None: there is none left
        self._works: set[asyncio.Task[bytes | None]] = set()  # kept until they end: the loop holds no task
        self._again: set[asyncio.TimerHandle] = set()  # that will start a writer
        self._pause_s = _AGAIN_S

    async def start(self, count: int) -> None:
        """Start ``count`` writers, and wait until they can write; one that cannot be started is tried again later."""
        await asyncio.gather(*(self._started() for _ in range(count)))

    def stop(self) -> None:
        """End them all."""
        for timer in self._again:
            timer.cancel()
        for writer in list(self._all):
            self._lose(writer)

    def memory_bytes(self) -> dict[str, int]:
        """Resident bytes of each."""
        return {f"writer-{i}": resident_bytes(pid) for i, pid in enumerate(sorted(w.pid for w in self._all))}

    async def json(self, rows: npt.NDArray[Any]) -> bytes | npt.NDArray[Any]:
        """[n, dim] as JSON, a list of lists; or the rows themselves, which the caller then writes.

        They come back where they are few, are no float32, or no writer is free in time.
        """
        if rows.dtype != "float32" or rows.size <= _FEW:
            return rows
        step = _PART // rows.shape[1]
        if len(rows) <= step:
            return await self._part(rows) or rows
        parts = [rows[at : at + step] for at in range(0, len(rows), step)]
        texts = await asyncio.gather(*map(self._part, parts))
        if not any(texts):
            return rows
        bare = [memoryview(text or as_json(part))[1:-1] for part, text in zip(parts, texts, strict=True)]
        return b"".join([b"[", b",".join(bare), b"]"])

    async def _part(self, rows: npt.NDArray[Any]) -> bytes | None:
        writer = await self._writer()
        return await self._with(writer, writer.json(rows)) if writer else None

    async def _started(self) -> None:
        try:
            writer = _Writer(self._died)
        except OSError as error:  # no memory, processes or descriptors left
            logs.event("writer_failed", {"error": str(error)}, level=logging.WARNING)
            self._start_again()
            return
        self._all.add(writer)
        if await self._with(writer, writer.ready()) is not None:
            self._pause_s = _AGAIN_S

    def _start_again(self) -> None:
        def start() -> None:
            self._again.discard(timer)
            self._keep(loop.create_task(self._started()))

        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._pause_s, start)
        self._again.add(timer)
        self._pause_s = min(2 * self._pause_s, _LATER_S)

    async def _writer(self) -> _Writer | None:
        """The next free writer; None where too many wait for one already."""
        if self._free:
            return self._free.pop()
        if len(self._waiting) >= _QUEUE * len(self._all):
            return None
        free: asyncio.Future[_Writer | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(free)
        try:
            return await free
        except asyncio.CancelledError:
            if free.done() and not free.cancelled() and (writer := free.result()):
                self._is_free(writer)
            raise

    def _is_free(self, writer: _Writer) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(writer)
                return
        self._free.append(writer)

    async def _with(self, writer: _Writer, work: Coroutine[None, None, bytes]) -> bytes | None:
        """What ``writer`` answers, or None if it died. It finishes also where the caller leaves, and is free then."""

        async def run() -> bytes | None:
            try:
                found = await work
            except (OSError, TimeoutError):
                self._died(writer)
                return None
            if writer in self._all:
                self._is_free(writer)
            return found

        return await asyncio.shield(self._keep(asyncio.create_task(run())))

    def _keep(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        """Hold a task until it ends, as the loop does not."""
        self._works.add(task)
        task.add_done_callback(self._works.discard)
        return task

    def _died(self, writer: _Writer) -> None:
        if writer in self._all:
            logs.event("writer_lost", {"pid": writer.pid}, level=logging.WARNING)
            self._lose(writer)
            self._start_again()

    def _lose(self, writer: _Writer) -> None:
        self._all.discard(writer)
        if writer in self._free:
            self._free.remove(writer)
        writer.end()
        while self._waiting and not self._all:
            if not (waiting := self._waiting.popleft()).done():
                waiting.set_result(None)


def as_json(rows: npt.NDArray[Any]) -> bytes:
    """Rows of numbers as a list of lists."""
    return orjson.dumps(np.ascontiguousarray(rows), option=orjson.OPT_SERIALIZE_NUMPY)


class _Writer:
    """The front's end of one writer: a socket, and memory that both see. Its methods raise OSError when it is gone."""

    def __init__(self, when_idle_dies: Callable[[_Writer], None]) -> None:
        self._when_idle_dies = when_idle_dies
        self._loop = asyncio.get_running_loop()
        self._sock, theirs = socket.socketpair()
        self._sock.setblocking(False)
        with theirs, os.fdopen(os.memfd_create("strata-writer"), "wb") as memory:
            memory.truncate(SHARED_BYTES)
            self._shared = mmap(memory.fileno(), SHARED_BYTES)
            command = module_command("strata.app.writer", str(memory.fileno()))
            self._process = start_ignoring_signals(command, theirs, safe_environment(), pass_fds=(memory.fileno(),))
        self.pid = self._process.pid
        self._answer: asyncio.Future[int] = self._loop.create_future()
        self._loop.add_reader(self._sock, self._hear)

    async def ready(self) -> bytes:
        """Wait until it can write. Raises TimeoutError."""
        async with asyncio.timeout(_READY_S):
            await self._answer
        return b""

    async def json(self, rows: npt.NDArray[np.float32]) -> bytes:
        """Rows of numbers as a list of lists. Raises TimeoutError."""
        self._answer = self._loop.create_future()
        np.frombuffer(self._shared, np.float32, rows.size).reshape(rows.shape)[:] = rows
        self._sock.send(ROWS.pack(*rows.shape))  # a few bytes always fit: it has nothing else to read
        async with asyncio.timeout(_PATIENCE_S):
            size = await self._answer
        return self._shared[:size]

    def end(self) -> None:
        """End it; whoever waits for it hears that it is gone."""
        self._gone()
        self._process.kill()
        self._process.wait()
        self._sock.close()

    def _hear(self) -> None:
        try:
            heard = self._sock.recv(ANSWER.size)
        except OSError:
            heard = b""
        if heard:
            if not self._answer.done():  # else nobody waits for it any more
                self._answer.set_result(*ANSWER.unpack(heard))
        elif not self._gone():
            self._when_idle_dies(self)

    def _gone(self) -> bool:
        """Fail the answer that is waited for; whether there was one."""
        self._loop.remove_reader(self._sock)
        if waited := not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the writer is gone"))
        return waited
