"""The engine as the front sees it: starts the host, keeps its workers alive, runs batches on idle ones."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from itertools import count
from pathlib import Path
from typing import Literal

from strata.app.engine.batch import Batch, BatchResult
from strata.app.engine.choose import EngineChoice
from strata.app.engine.link import Done, EngineError, HostLink, Worker, WorkerLost, settle
from strata.app.engine.memory import resident_bytes
from strata.app.engine.open_choices import OpenChoices
from strata.app.engine.options import EngineOptions
from strata.model_store.bundle.bundle import BundleError, read_manifest

Status = Literal["loading", "ready", "dead"]
Event = Callable[..., None]

# The engine is given up when workers die this often within the window, and none answers a batch in between. The window
# is wide enough for a lone worker that hangs on every batch, and is killed each time.
_DEATHS, _DEATH_WINDOW_S = 8, 120.0
_TOGETHER_S = 1.0  # workers that die within it count as one death: they die of one thing
_DOWN_S = 60.0  # without a single worker, after which the engine is given up, too
PATIENCE_S = 120.0  # for the answer to a batch whose time cannot be predicted
_PAUSE_S, _PAUSES_S = 0.5, 10.0  # between attempts to start a host, at first and at most
_LOOK_S = 0.00025  # between two looks for answers, each a system call a worker


class EnginePool:
    """Engine workers forked from one host, replaced when they die.

    The bundle must have been checked (`Bundle.open`). ``on_event(name, **facts)`` hears of restarts; ``on_idle`` is
    called whenever a worker becomes free.
    """

    def __init__(self, bundle: Path, options: EngineOptions) -> None:
        self.bundle = bundle
        self._open = OpenChoices(bundle, options)
        self.on_event: Event = lambda name, **facts: None
        self.on_idle: Callable[[], None] = lambda: None
        self._starting: dict[str, HostLink] = {}  # by backend, until one is chosen
        self._host: HostLink | None = None
        self._idle: list[Worker] = []
        self._workers: set[Worker] = set()
        self._places: dict[Worker, int] = {}  # from 0; a worker takes the place of the one it replaces
        self._busy: dict[int, float] = {}  # seconds with a batch, by place
        self._began: dict[Worker, float] = {}  # when the batch in hand was given, of workers that have one
        self._looked = 0.0  # when answers were last looked for
        self._deaths: deque[float] = deque(maxlen=_DEATHS)
        self._revision = ""  # of the bundle, when it was first opened
        self._down_since: float | None = None  # since when there is no worker
        self._dead = False
        self._stopping = False
        self._mending = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.choice: EngineChoice | None = None

    @property
    def status(self) -> Status:
        """Whether batches can be run now."""
        if self._dead:
            return "dead"
        return "ready" if self._workers else "loading"

    @property
    def size(self) -> int:
        """Workers alive."""
        return len(self._workers)

    @property
    def idle(self) -> int:
        """Workers without a batch."""
        return len(self._idle)

    def busy_seconds(self) -> dict[int, float]:
        """Seconds that each place's worker had a batch, the one in hand included; a replacement counts on."""
        now = time.monotonic()
        found = dict(self._busy)
        for worker, began in self._began.items():
            found[self._places[worker]] += now - began
        return found

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by role."""
        found = {"engine-host": self._host.pid} if self._host else {}
        return found | {f"engine-worker-{i}": pid for i, pid in enumerate(sorted(w.pid for w in self._workers))}

    def memory_bytes(self) -> dict[str, int]:
        """Resident bytes of each engine process; pages that workers share with the host count in each."""
        return {role: resident_bytes(pid) for role, pid in self.pids.items()}

    def launch(self) -> None:
        """Start the processes that ``start`` will use: they import for seconds, and the caller can use the time.

        Raises EngineError where the options leave nothing to start.
        """
        candidates, (_, threads) = self._open.candidates(), self._open.size()
        self._open.check_device()
        for backend in dict.fromkeys(backend for backend, _ in candidates):
            self._starting[backend] = HostLink.start(self.bundle, backend, self._open.device, threads)

    async def start(self) -> None:
        """Load, measure where the operator left a choice, fork the workers. Raises EngineError when it cannot."""
        if not self._starting:
            self.launch()
        try:
            self._revision = await asyncio.to_thread(self._read_revision)
            candidates, best, reason = await self._open.choose(self._starting)
            await self._starting[best.backend].load([best.dtype], warm=True)
            self._host = self._starting.pop(best.backend)
        finally:
            await self._stop_starting()
        (workers, threads), device_at = self._open.size(), self._open.device_at
        self.choice = EngineChoice(
            best.backend, best.dtype, self._open.device, workers, threads, reason, tuple(candidates)
        )
        for worker in await asyncio.gather(*(self._host.fork(best.dtype, device_at(i)) for i in range(workers))):
            self._join(worker)
        self._spawn(self._keep_host())

    def abandon(self) -> None:
        """End what `launch` began, where nothing was started."""
        hosts, self._starting = self._starting, {}
        for host in hosts.values():
            host.abandon()

    async def _stop_starting(self) -> None:
        hosts, self._starting = self._starting, {}
        await asyncio.gather(*(host.stop() for host in hosts.values()))

    async def stop(self) -> None:
        """End every engine process."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        for worker in self._workers:
            worker.close()
        self._workers.clear()
        self._began.clear()
        self._idle.clear()
        await self._stop_starting()
        if self._host:
            await self._host.stop()

    def start_batch(self, batch: Batch, patience_s: float, done: Done) -> None:
        """Run a batch on an idle worker (there must be one); ``done`` is called when it has ended, one way or another.

        A worker without an answer after ``patience_s`` is held to hang, and replaced.
        """
        worker = self._idle.pop()
        self._began[worker] = time.monotonic()
        worker.start(batch, patience_s, partial(self._ended, worker, done))

    def run(self, batch: Batch) -> asyncio.Future[BatchResult]:
        """The same, to be awaited; the worker is taken at the call. Awaiting raises BatchFailed or WorkerLost."""
        ended: asyncio.Future[BatchResult] = asyncio.get_running_loop().create_future()
        self.start_batch(batch, PATIENCE_S, partial(settle, ended))
        return ended

    def look(self) -> None:
        """Take the answers that have come meanwhile: to be called often by whoever keeps the loop busy."""
        now = time.monotonic()
        if now - self._looked >= _LOOK_S:
            self._looked = now
            for worker in list(self._began):
                worker.look()

    def _ended(self, worker: Worker, done: Done, found: BatchResult | EngineError) -> None:
        if isinstance(found, WorkerLost):
            self._drop(worker)
            self._mend(str(found))
        else:
            self._rests(worker)
            if worker in self._workers:
                self._idle.append(worker)
            if not isinstance(found, EngineError):
                self._deaths.clear()
        done(found)
        if not isinstance(found, WorkerLost):
            self.on_idle()

    def _drop(self, worker: Worker) -> None:
        """The worker is gone."""
        self._rests(worker)
        self._workers.discard(worker)
        self._places.pop(worker, None)

    def _rests(self, worker: Worker) -> None:
        """The worker has no batch in hand any more."""
        began = self._began.pop(worker, None)
        if began is not None and worker in self._places:
            self._busy[self._places[worker]] += time.monotonic() - began

    def _join(self, worker: Worker) -> None:
        """A new worker is ready."""
        self._workers.add(worker)
        place = self._places[worker] = self._free_place()
        self._busy.setdefault(place, 0.0)
        self._down_since = None
        self._idle.append(worker)
        self.on_idle()
        worker.when_lost(lambda: self._lost_idle(worker))

    def _lost_idle(self, worker: Worker) -> None:
        """A worker died between batches."""
        if worker in self._idle and not self._stopping:
            self._idle.remove(worker)
            self._drop(worker)
            self._mend(f"engine worker {worker.pid} died while idle")

    def _mend(self, reason: str) -> None:
        """A worker was lost: replace it, or give the engine up where too many were lost."""
        if self._stopping:
            return
        now = time.monotonic()
        if not self._deaths or now - self._deaths[-1] > _TOGETHER_S:
            self._deaths.append(now)
        self.on_event("engine_worker_lost", reason=reason)
        if not self._workers and self._down_since is None:
            self._down_since = now
        if len(self._deaths) == _DEATHS and now - self._deaths[0] < _DEATH_WINDOW_S:
            self._end(f"{_DEATHS} workers died within {_DEATH_WINDOW_S:.0f} s, and none answered a batch")
            return
        self._spawn(self._replace())

    def _end(self, reason: str) -> None:
        self._dead = True
        self.on_event("engine_dead", reason=reason)
        self.on_idle()  # whoever waits for a worker must hear that none will come

    async def _failed(self, error: Exception, pause: float) -> float:
        """A worker or a host could not be started: wait ``pause`` seconds; returns the pause for the next time."""
        self.on_event("engine_restart_failed", reason=str(error) or repr(error))
        if self._down_since is not None and time.monotonic() - self._down_since > _DOWN_S:
            self._end(f"no worker could be started for {_DOWN_S:.0f} s: {error}")
        await asyncio.sleep(pause)
        return min(2 * pause, _PAUSES_S)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self) -> None:
        """One new worker; a new host first, if the old one is gone."""
        assert self.choice is not None
        pause = _PAUSE_S
        async with self._mending:
            while not self._dead:
                try:
                    host = await self._living_host()
                    worker = await host.fork(self.choice.dtype, self._open.device_at(self._free_place()))
                except (EngineError, OSError) as error:  # OSError: no memory, processes or descriptors left
                    pause = await self._failed(error, pause)
                    continue
                self.on_event("engine_worker_started", pid=worker.pid)
                self._join(worker)
                return

    async def _keep_host(self) -> None:
        """Replace a host that dies before a worker needs it: loading takes seconds, forking milliseconds."""
        pause = _PAUSE_S
        while not self._dead:
            if self._host and self._host.alive:
                pause = _PAUSE_S
                await self._host.ended()
                self.on_event("engine_host_lost", pid=self._host.pid)
            async with self._mending:
                try:
                    await self._living_host()
                except (EngineError, OSError) as error:
                    pause = await self._failed(error, pause)

    async def _living_host(self) -> HostLink:
        """The host, or a new one loaded with the chosen dtype. Raises EngineError."""
        assert self.choice is not None
        if self._host is None or not self._host.alive:
            if await asyncio.to_thread(self._read_revision) != self._revision:
                raise EngineError(f"{self.bundle} holds another model now; restart to serve it")
            c = self.choice
            host = HostLink.start(self.bundle, c.backend, c.device, c.threads)
            try:
                await host.load([c.dtype], warm=True)
            except BaseException:  # a stop of the pool among them
                await host.stop()
                raise
            self._host = host
        return self._host

    def _read_revision(self) -> str:
        try:
            return read_manifest(self.bundle).revision
        except BundleError as error:
            raise EngineError(str(error)) from error

    def _free_place(self) -> int:
        return next(i for i in count() if i not in self._places.values())
