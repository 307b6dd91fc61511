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
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from strata import PLACE
from strata.app.engine.batch import Batch, BatchResult
from strata.app.engine.signals import start_ignoring_signals
from strata.app.engine.wire import HEAD, Kind, decode_result, encode_batch, frame, json_frame, receive
from strata.app.safe_path import module_command, safe_environment

T = TypeVar("T")

_READ_BYTES = 1 << 18  # of an answer at once
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


Done = Callable[[BatchResult | EngineError], None]  # how a batch ended


class Worker:
    """One forked engine worker. It has at most one batch, whose end is told once.

    Its socket is read by the loop, and by `look` in between: a loop that has hundreds of callers to read in one turn
    would let a worker wait for its next batch until it is through with them.
    """

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._unsent = b""
        self._tell: Callable[[Kind, bytes], None] | None = None  # takes the frame that comes next; None: nobody waits
        self._fail: Callable[[str], None] = lambda reason: None
        self._overdue: asyncio.TimerHandle | None = None
        self._gone = False
        self._when_lost: Callable[[], None] = lambda: None
        sock.setblocking(False)
        self._loop.add_reader(sock, self.look)

    @classmethod
    async def connect(cls, pid: int, sock: socket.socket) -> Worker:
        """Take over a worker's socket and wait until it is ready. Raises WorkerLost."""
        worker = cls(pid, sock)
        ready: asyncio.Future[None] = worker._loop.create_future()

        def hear(kind: Kind, payload: bytes) -> None:
            if kind is Kind.FAILURE:
                worker.close()
                settle(ready, payload.decode().splitlines()[0])
            else:
                settle(ready, None)

        worker._await(_WORKER_READY_S, hear, lambda why: settle(ready, why))
        await ready
        return worker

    def start(self, batch: Batch, timeout_s: float, done: Done) -> None:
        """Run one batch; ``done`` gets its result, or BatchFailed, or WorkerLost (the worker is then ended)."""

        def tell(kind: Kind, payload: bytes) -> None:
            if kind is Kind.FAILURE:
                done(BatchFailed(payload.decode()))
                return
            try:
                result = decode_result(payload)
            except Exception as error:  # whatever it is, the callers must hear of it
                done(BatchFailed(f"{type(error).__name__}: {error}"))
            else:
                done(result)

        try:
            data = frame(Kind.BATCH, encode_batch(batch))
        except Exception as error:  # likewise, but not before the caller knows that the batch has started
            self._loop.call_soon(done, BatchFailed(f"{type(error).__name__}: {error}"))
            return
        self._await(timeout_s, tell, lambda reason: done(WorkerLost(reason)))
        if not self._gone:
            self._send(data)

    async def run(self, batch: Batch, timeout_s: float) -> BatchResult:
        """The same, awaited."""
        ended: asyncio.Future[BatchResult] = self._loop.create_future()
        self.start(batch, timeout_s, partial(settle, ended))
        return await ended

    def look(self) -> None:
        """Read what has come of an answer, without waiting; once it is whole, tell who waits for it."""
        while not self._gone:
            try:
                data = self._sock.recv(_READ_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self._lose(f"engine worker {self.pid} died")
                return
            self._buffer += data
            if self._tell_whole_frame():
                return

    def _tell_whole_frame(self) -> bool:
        """Take a frame that is complete out of the buffer and hand it to who waits; whether there was one."""
        if len(self._buffer) < HEAD.size:
            return False
        size, kind = HEAD.unpack_from(self._buffer)
        end = HEAD.size + size
        if len(self._buffer) < end:
            return False
        payload = bytes(memoryview(self._buffer)[HEAD.size : end])
        del self._buffer[:end]
        tell = self._end_wait()
        if tell:
            tell(Kind(kind), payload)
        return True

    def _await(self, timeout_s: float, tell: Callable[[Kind, bytes], None], fail: Callable[[str], None]) -> None:
        """Have ``tell`` called with the next frame, or ``fail`` with a reason if the worker dies or is late."""
        self._tell, self._fail = tell, fail
        if self._gone:  # it died after it was picked and before this turn of the loop
            self._loop.call_soon(self._lose, f"engine worker {self.pid} died")
        else:
            late = f"no answer from engine worker {self.pid} within {timeout_s:.0f} s"
            self._overdue = self._loop.call_later(timeout_s, self._lose, late)

    def _end_wait(self) -> Callable[[Kind, bytes], None] | None:
        """Wait for no frame any more; returns what was to take it, if anybody waited."""
        tell, self._tell = self._tell, None
        if self._overdue:
            self._overdue.cancel()
        return tell

    def _send(self, data: bytes) -> None:
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            return  # it died: the reader hears of it
        self._unsent = data[sent:]
        if self._unsent:
            self._loop.add_writer(self._sock, self._send_on)

    def _send_on(self) -> None:
        self._loop.remove_writer(self._sock)
        self._send(self._unsent)

    def _lose(self, reason: str) -> None:
        """End the worker; who waits for a frame, or else ``when_lost``, hears of it."""
        waited = self._end_wait()
        self.kill()
        if waited:
            self._fail(reason)
        else:
            self._when_lost()

    def when_lost(self, call: Callable[[], None]) -> None:
        """Call back when the worker dies between two batches."""
        self._when_lost = call

    def close(self) -> None:
        """Let the worker end by itself, once its batch is done."""
        if not self._gone:
            self._gone = True
            self._end_wait()
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()

    def kill(self) -> None:
        """End the worker at once."""
        self.close()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


def settle(future: asyncio.Future[T], found: T | str | EngineError) -> None:
    """Set a future's result, or the EngineError that came instead; a future that is done stays as it is.

    A str is the reason for which the worker was lost.
    """
    if future.done():
        return
    if isinstance(found, EngineError):
        future.set_exception(found)
    elif isinstance(found, str):
        future.set_exception(WorkerLost(found))
    else:
        future.set_result(found)


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
        self._asking = asyncio.Lock()  # one command at a time

    @classmethod
    def start(cls, bundle: Path, backend: str, device: str, threads: int) -> HostLink:
        """Start the process; nothing is loaded until ``load``."""
        ours, theirs = socket.socketpair()
        with theirs:
            environment = {**safe_environment(), **_MALLOC, **_THREADS, **_PRIVACY}
            process = start_ignoring_signals(module_command("strata.app.engine.host", backend), theirs, environment)
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
        async with self._asking:
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
