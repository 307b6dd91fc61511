"""The engine as the front sees it: starts the host, keeps its workers alive, runs batches on idle ones."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from functools import cached_property, partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Literal

from strata.app.engine.batch import Batch, BatchResult
from strata.app.engine.choose import Candidate, EngineChoice, fastest, measure, sample_tokens
from strata.app.engine.cpu import usable_cores
from strata.app.engine.devices import gpu_count, torch_has_cuda
from strata.app.engine.link import Done, EngineError, HostLink, Worker, WorkerLost, settle
from strata.app.engine.memory import resident_bytes
from strata.app.engine.options import FAITHFUL, EngineOptions
from strata.model_store.bundle.bundle import Bundle, BundleError, read_manifest

Status = Literal["loading", "ready", "dead"]
Event = Callable[..., None]

# The dtypes each backend has.
_DTYPES = {"torch": ("float32", "bfloat16", "int8"), "onnxruntime": ("float32", "int8")}
_GPU_DTYPES: Mapping[str, tuple[str, ...]] = {"torch": ("float32", "bfloat16", "float16"), "onnxruntime": ()}
_AUTO = ("float32", "bfloat16")
_ROUGH = ("int8",)  # changes vectors more than auto may, unless the operator allows it
_DEATHS = 8  # times within the window that workers died, with no batch answered between them, that end the engine
_TOGETHER_S = 1.0  # workers that die within it die of one thing
_DEATH_WINDOW_S = 120.0  # in which a lone worker that hangs on every batch is ended as often, too
PATIENCE_S = 120.0  # with a batch that nobody can foresee the time of
_PAUSE_S, _PAUSES_S = 0.5, 10.0  # between attempts to start a host, at first and at most
_LOOK_S = 0.00025  # between two looks for answers, each a system call a worker
_DOWN_S = 60.0  # without a single worker, after which the engine is given up


class EnginePool:
    """Engine workers forked from one host, replaced when they die.

    The bundle must have been checked (`Bundle.open`). ``on_event(name, **facts)`` hears of restarts; ``on_idle`` is
    called whenever a worker becomes free.
    """

    def __init__(self, bundle: Path, options: EngineOptions) -> None:
        self.bundle = bundle
        self._options = options
        self.on_event: Event = lambda name, **facts: None
        self.on_idle: Callable[[], None] = lambda: None
        self._starting: dict[str, HostLink] = {}  # by backend, until one is chosen
        self._host: HostLink | None = None
        self._idle: list[Worker] = []
        self._workers: set[Worker] = set()
        self._places: dict[Worker, int] = {}  # from 0, kept by whoever replaces a worker
        self._busy: dict[int, float] = {}  # seconds with a batch, by place
        self._began: dict[Worker, float] = {}  # when the batch at hand was given
        self._looked = 0.0  # when answers were last looked for
        self._deaths: deque[float] = deque(maxlen=_DEATHS)
        self._revision = ""  # of the bundle, when it was first opened
        self._down_since: float | None = None  # there is no worker
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
        """Seconds that each worker had a batch, the one at hand included, by its place; who replaces it goes on."""
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
        candidates = self._candidates()
        if self._device != "cpu" and not torch_has_cuda():
            raise EngineError(
                f"device {self._device}: the torch that is installed was built without CUDA; install one that has it, "
                "or leave the device to auto"
            )
        for backend in dict.fromkeys(backend for backend, _ in candidates):
            self._starting[backend] = HostLink.start(self.bundle, backend, self._device, self._size()[1])

    async def start(self) -> None:
        """Load, measure where the operator left a choice, fork the workers. Raises EngineError when it cannot."""
        if not self._starting:
            self.launch()
        try:
            self._revision = await asyncio.to_thread(self._read_revision)
            candidates, best, reason = await self._choose()
            await self._starting[best.backend].load([best.dtype], warm=True)
            self._host = self._starting.pop(best.backend)
        finally:
            await self._stop_starting()
        workers, threads = self._size()
        self.choice = EngineChoice(best.backend, best.dtype, self._device, workers, threads, reason, tuple(candidates))
        for worker in await asyncio.gather(*(self._host.fork(best.dtype, self._device_at(i)) for i in range(workers))):
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
        """The same, to be awaited; the worker is taken here and now. Raises BatchFailed or WorkerLost, awaited."""
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
        self._rests(worker)
        self._workers.discard(worker)
        self._places.pop(worker, None)

    def _rests(self, worker: Worker) -> None:
        """Its batch is over."""
        began = self._began.pop(worker, None)
        if began is not None and worker in self._places:
            self._busy[self._places[worker]] += time.monotonic() - began

    def _join(self, worker: Worker) -> None:
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
        """A worker or a host could not be started: wait, and say how long to wait the next time."""
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
                    worker = await host.fork(self.choice.dtype, self._device_at(self._free_place()))
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

    @cached_property
    def _device(self) -> str:
        return self._options.device if self._options.device != "auto" else _found_device(self._options.backend)

    def _free_place(self) -> int:
        return next(i for i in count() if i not in self._places.values())

    def _device_at(self, place: int) -> str:
        """Of the worker at a place: with several GPUs, each has one."""
        return f"cuda:{place}" if self._device == "cuda" else self._device

    def _size(self) -> tuple[int, int]:
        """(workers, threads each): on a CPU a worker per core with one thread, one worker per GPU."""
        workers, threads = self._options.workers, self._options.threads
        if self._device != "cpu":
            gpus = 1 if ":" in self._device else max(gpu_count(), 1)
            if workers and workers > gpus:
                have = f"{self._device} is one GPU" if gpus == 1 else f"there are {gpus} GPUs"
                raise EngineError(f"workers: {workers} asked, but {have}, and each takes one worker")
            return workers or gpus, threads or 1
        cores = usable_cores()
        if threads is None:
            threads = max(1, cores // workers) if workers else 1
        return workers or max(1, cores // threads), threads

    def _candidates(self) -> list[tuple[str, str]]:
        """(backend, dtype) pairs that the options leave open, the most exact first. Raises EngineError if none."""
        options = self._options
        backends = [options.backend] if options.backend != "auto" else ["torch", "onnxruntime"]
        if options.backend == "auto":
            backends = [b for b in backends if find_spec(b) and (self._device == "cpu" or b == "torch")]
        dtypes = [options.dtype] if options.dtype != "auto" else [*_AUTO, *_ROUGH * (options.min_cosine < FAITHFUL)]
        known: Mapping[str, tuple[str, ...]] = _DTYPES if self._device == "cpu" else _GPU_DTYPES
        pairs = [(b, d) for d in dtypes for b in backends if d in known[b]]
        if ("torch", "int8") in pairs:
            # One of the two: their vectors differ, and replicas must not choose by a measurement.
            theirs = "torch" if self._torch_has_int8() else "onnxruntime"
            pairs = [(b, d) for b, d in pairs if d != "int8" or b == theirs]
            if not pairs:
                raise EngineError(
                    "dtype int8 is not available (on torch it runs on a CPU, by scales that this bundle lacks; measure "
                    f"them: strata models calibrate {self.bundle.name})"
                )
        if not pairs:
            have = "; ".join(f"{b}: {', '.join(known[b])}" for b in backends) or "neither backend is installed"
            raise EngineError(f"dtype {options.dtype} is not available ({have})")
        return pairs

    def _torch_has_int8(self) -> bool:
        try:
            return self._device == "cpu" and read_manifest(self.bundle).int8_scales is not None
        except BundleError as error:
            raise EngineError(str(error)) from error

    async def _choose(self) -> tuple[list[Candidate], Candidate, str]:
        wanted, hosts = self._candidates(), self._starting
        if len(wanted) == 1:
            only = Candidate(*wanted[0], None, None)
            return [only], only, "the only one that the options leave"
        bundle = await asyncio.to_thread(Bundle.open, self.bundle, checksums=False)
        sample = await asyncio.to_thread(sample_tokens, bundle)
        failed: dict[tuple[str, str], str] = {}

        async def load(backend: str, host: HostLink) -> None:
            """One dtype after the other: one that cannot be loaded leaves the others."""
            loaded: list[str] = []
            for dtype in [d for b, d in wanted if b == backend]:
                try:
                    await host.load([*loaded, dtype])
                    loaded.append(dtype)
                except EngineError as error:
                    failed[backend, dtype] = str(error)

        await asyncio.gather(*(load(backend, host) for backend, host in hosts.items()))
        workers: dict[tuple[str, str], Worker] = {}
        for b, d in wanted:
            if (b, d) not in failed:
                try:
                    workers[b, d] = await hosts[b].fork(d, self._device_at(0))
                except EngineError as error:
                    failed[b, d] = str(error)
        if not workers:
            raise EngineError(
                "; ".join(dict.fromkeys(f"{backend}: {reason}" for (backend, _), reason in failed.items()))
            )
        try:
            found = await measure(workers, bundle.manifest, sample)
        finally:
            for worker in workers.values():
                worker.close()
        best, reason = fastest(found, self._options.min_cosine)
        return found + [Candidate(b, d, None, None, why) for (b, d), why in failed.items()], best, reason


def _found_device(backend: str) -> str:
    """ "cuda" where a driver answers and the torch that is installed can use it, else "cpu"."""
    return "cuda" if backend != "onnxruntime" and gpu_count() and torch_has_cuda() else "cpu"
