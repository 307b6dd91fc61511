"""The front's ends of the sockets to an engine host and to a worker."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from strata import PLACE
from strata.app.engine.batch import Batch, BatchResult
from strata.app.engine.signals import FRONT_SIGNALS
from strata.app.engine.wire import HEAD, Kind, decode_result, encode_batch, frame, json_frame, receive
from strata.app.safe_path import module_command, safe_environment

T = TypeVar("T")

_LOAD_S = 600.0  # for a host to load a model from a slow disk
_FORK_S = 20.0  # for a host to fork
_WORKER_READY_S = 120.0  # for a worker that sets up a GPU

# glibc maps and unmaps every large buffer anew by default, which costs a page fault per 4 KB of every layer.
_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_ARENA_MAX": "1",  # the thread that loads would leave one of its own behind, half empty
}
# Thread pools must not exist before the fork, and waiting threads must not burn the cores that others work on.
_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "GOMP_SPINCOUNT": "2000"}
# onnxruntime's own builds report to their maker unless told not to before they are loaded.
_PRIVACY = {"ORT_DISABLE_TELEMETRY": "1"}


class EngineError(Exception):
    """The engine cannot do what it was asked; the message is its own."""


class BatchFailed(EngineError):  # noqa: N818 - reads as what happened
    """One batch raised in the worker; the worker lives."""


class WorkerLost(EngineError):  # noqa: N818 - reads as what happened
    """The worker died or hung with a batch in hand."""


class _Frames(asyncio.Protocol):
    """One answer at a time from a socket; tells when the other end is gone."""

    def __init__(self) -> None:
        self.on_lost: Callable[[], None] = lambda: None
        self._buffer = bytearray()
        self._waiting: asyncio.Future[tuple[Kind, bytes]] | None = None
        self._lost = False

    def answer(self) -> asyncio.Future[tuple[Kind, bytes]]:
        """The next frame; raises ConnectionResetError when the other end goes first."""
        self._waiting = asyncio.get_running_loop().create_future()
        self._settle()
        return self._waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._settle()
        self.on_lost()

    def _settle(self) -> None:
        if self._waiting is None or self._waiting.done():
            return
        if len(self._buffer) >= HEAD.size:
            size, kind = HEAD.unpack_from(self._buffer)
            end = HEAD.size + size
            if len(self._buffer) >= end:
                payload = bytes(memoryview(self._buffer)[HEAD.size : end])
                del self._buffer[:end]
                self._waiting.set_result((Kind(kind), payload))
                return
        if self._lost:
            self._waiting.set_exception(ConnectionResetError())


class Worker:
    """One forked engine worker."""

    def __init__(self, pid: int, transport: asyncio.Transport, frames: _Frames) -> None:
        self.pid = pid
        self._transport = transport
        self._frames = frames

    @classmethod
    async def connect(cls, pid: int, sock: socket.socket) -> Worker:
        """Take over a worker's socket and wait until it is ready. Raises WorkerLost."""
        transport, frames = await asyncio.get_running_loop().create_unix_connection(_Frames, sock=sock)
        worker = cls(pid, transport, frames)
        await worker._answer_within(_WORKER_READY_S)
        return worker

    async def run(self, batch: Batch, timeout_s: float) -> BatchResult:
        """Run one batch. Raises BatchFailed, or WorkerLost (the worker is then ended)."""
        if self._transport.is_closing():  # it died after it was picked and before this turn of the loop
            raise WorkerLost(f"engine worker {self.pid} died")
        self._transport.write(frame(Kind.BATCH, encode_batch(batch)))
        kind, payload = await self._answer_within(timeout_s)
        if kind is Kind.FAILURE:
            raise BatchFailed(payload.decode())
        return decode_result(payload)

    async def _answer_within(self, timeout_s: float) -> tuple[Kind, bytes]:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._frames.answer()
        except TimeoutError as error:
            self.kill()
            raise WorkerLost(f"no answer from engine worker {self.pid} within {timeout_s:.0f} s") from error
        except OSError as error:
            raise WorkerLost(f"engine worker {self.pid} died") from error

    def when_lost(self, call: Callable[[], None]) -> None:
        """Call back when the worker's end of the socket closes."""
        self._frames.on_lost = call

    def close(self) -> None:
        """Let the worker end by itself, once its batch is done."""
        self._transport.close()

    def kill(self) -> None:
        """End the worker at once."""
        self._transport.abort()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class HostLink:
    """A running engine host: one process with one backend's weights loaded, from which workers are forked."""

    def __init__(
        self, process: subprocess.Popen[bytes], control: socket.socket, backend: str, about: dict[str, Any]
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._control = control
        self._backend = backend
        self._about = about
        self._turn = asyncio.Lock()

    @classmethod
    def start(cls, bundle: Path, backend: str, device: str, threads: int) -> HostLink:
        """Start the process; nothing is loaded until ``load``."""
        ours, theirs = socket.socketpair()
        # The front decides when the engine ends, from its first moment on: a blocked signal is inherited, waits, and is
        # thrown away when the host ignores it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, FRONT_SIGNALS)
        try:
            with theirs:
                process = subprocess.Popen(
                    module_command("strata.app.engine.host", backend),
                    stdin=theirs.fileno(),
                    env={**safe_environment(), **_MALLOC, **_THREADS, **_PRIVACY},
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        about = {"bundle": str(bundle), "device": device, "threads": threads, "place": str(PLACE)}
        return cls(process, ours, backend, about)

    async def load(self, dtypes: list[str], *, warm: bool = False) -> None:
        """Hold the model in exactly these dtypes, run once if ``warm``. Raises EngineError with the host's reason."""
        await self._ask({"do": "load", "dtypes": dtypes, "warm": warm, **self._about}, self._reply, _LOAD_S)

    async def fork(self, dtype: str, device: str) -> Worker:
        """A new worker, ready to run. Raises EngineError."""
        pid, sock = await self._ask({"do": "fork", "dtype": dtype, "device": device}, self._forked, _FORK_S)
        return await Worker.connect(pid, sock)

    async def _ask(self, command: dict[str, Any], hear: Callable[[], T], timeout_s: float) -> T:
        async with self._turn:
            self._control.settimeout(timeout_s)
            try:
                self._control.sendall(json_frame(command))
                return await asyncio.to_thread(hear)  # rare, and the only blocking reads of the front
            except TimeoutError as error:
                await self._end()  # whatever it answers later would be taken for the answer to something else
                raise EngineError(f"no answer from the engine host ({self._backend}) in {timeout_s:.0f} s") from error
            except OSError as error:
                raise EngineError(f"the engine host ({self._backend}) died") from error

    def _reply(self) -> None:
        message = receive(self._control)
        if message is None:
            raise EngineError(f"the engine host ({self._backend}) died while loading")
        answer = json.loads(message[1])
        if "error" in answer:
            raise EngineError(answer["error"])

    def _forked(self) -> tuple[int, socket.socket]:
        data, descriptors, _, _ = socket.recv_fds(self._control, 4096, 1)
        if not data:
            raise EngineError(f"the engine host ({self._backend}) died")
        answer = json.loads(data[HEAD.size :])
        if "error" in answer:
            raise EngineError(answer["error"])
        if not descriptors:  # the front is at its limit of open files
            raise EngineError(f"no descriptor came with engine worker {answer['pid']}")
        return answer["pid"], socket.socket(fileno=descriptors[0])

    async def stop(self) -> None:
        """End the host; its workers end when their own sockets close."""
        self._control.shutdown(socket.SHUT_RDWR)
        try:
            await asyncio.to_thread(self._process.wait, 2)
        except subprocess.TimeoutExpired:
            await self._end()
        self._control.close()

    def abandon(self) -> None:
        """End the process at once, where there is no loop to wait in."""
        self._process.kill()
        self._process.wait()
        self._control.close()

    async def _end(self) -> None:
        self._process.kill()
        await self.ended()

    async def ended(self) -> None:
        """Wait for the process to end."""
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def wait() -> None:
            self._process.wait()
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(ended.set)

        # Not one of the loop's own threads, which it would wait for at its end.
        Thread(target=wait, daemon=True).start()
        await ended.wait()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None
