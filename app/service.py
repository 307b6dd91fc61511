"""The service behind the API: the model it serves, and whether it is loading, serving, draining or dead."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic, time
from typing import Any, Literal

from strata import __version__
from strata.app import logs
from strata.app.callers.callers import Callers, everybody, one_key
from strata.app.callers.tiers_file import TiersError, read_tiers
from strata.app.engine.choose import sample_tokens
from strata.app.engine.link import EngineError
from strata.app.engine.memory import resident_bytes
from strata.app.engine.pool import EnginePool
from strata.app.loop_lag import LoopLag
from strata.app.metrics import Metrics
from strata.app.now import Recorder
from strata.app.planning.cost import CostModel
from strata.app.planning.feasibility import check_tiers
from strata.app.planning.planner import Planner
from strata.app.scheduling.errors import NotServing, Overloaded
from strata.app.scheduling.limits import Limits
from strata.app.scheduling.scheduler import Scheduler
from strata.app.scheduling.warmup import measure
from strata.app.settings import Settings
from strata.app.tokenizer import Tokenizer
from strata.app.tracing import Tracing
from strata.model_store.bundle.bundle import Bundle
from strata.model_store.bundle.manifest import Manifest

State = Literal["loading", "ready", "restarting", "draining", "dead"]

_YOUNG_OBJECTS = 10_000  # new ones between two looks; Python's 700 are those of three requests
_LOOK_S = 0.5  # how often the engine's health is looked at, in seconds
_UNTRAINED = (
    "ONLY FULL DEPTH IS TRAINED: this model was not trained to stop early, and its shallow vectors are of no use"
)


@dataclass(frozen=True)
class Served:
    """A model in service, and the rooms a request passes on its way."""

    name: str
    label: str  # name and revision: two answers compare only if they agree in it
    manifest: Manifest
    tokenizer: Tokenizer
    planner: Planner
    cost: CostModel
    scheduler: Scheduler
    pool: EnginePool

    @property
    def device(self) -> str:
        """Where the engine runs."""
        return self.pool.choice.device if self.pool.choice else "cpu"

    @property
    def engine(self) -> dict[str, object]:
        """What the engine chose to run on, and why; empty until it has."""
        choice = self.pool.choice
        if choice is None:
            return {}
        facts = ("backend", "dtype", "device", "workers", "threads", "reason")
        return {fact: getattr(choice, fact) for fact in facts}

    @property
    def warning(self) -> str | None:
        """What everybody who looks at the model must be told."""
        return None if self.manifest.elastic else _UNTRAINED


class Service:
    """Brings a pool's bundle into service and takes it out again. ``on_death`` is told when it cannot go on.

    Raises TiersError for a file of tiers that cannot be used, TracingError where spans cannot be made.
    """

    def __init__(self, settings: Settings, pool: EnginePool) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.recorder = Recorder(self.metrics)
        self.tracing = Tracing(__version__) if settings.traces else None
        self.callers = _callers(settings)
        self.operations_port: int | None = None  # where it is another one than the rest's
        self.port: int | None = None  # of the rest; None where it is a Unix socket
        self.on_death: Callable[[str], None] = lambda reason: None
        self.born = int(time())
        self._reload_waits = False
        self._pool = pool
        pool.on_event = self._on_engine_event
        self._served: Served | None = None
        self._loaded = self._draining = False
        self._dead: str | None = None
        self._held_bytes = 0  # of the bodies of all requests in the house
        self._seated: set[asyncio.Task[Any]] = set()
        self._evicted: set[asyncio.Task[Any]] = set()
        self._lag = LoopLag(self.metrics.loop_lagged)
        self._life: asyncio.Task[None] | None = None

    @property
    def state(self) -> State:
        """The truth for `/ready`, without asking the engine anything."""
        if self._dead:
            return "dead"
        if self._draining:
            return "draining"
        if self._served is None or not self._loaded:
            return "loading"
        status = self._served.pool.status
        return "restarting" if status == "loading" else status

    @property
    def label(self) -> str | None:
        """Name and revision of the model; None before its bundle is open."""
        return self._served.label if self._served else None

    def served(self) -> Served:
        """The model, if requests are accepted. Raises NotServing.

        While dead workers are replaced requests are accepted and wait: it takes a second or two.
        """
        state = self.state
        if self._served is None or state not in ("ready", "restarting"):
            raise NotServing(self.why_not(state))
        return self._served

    def opened(self) -> Served:
        """The model, as soon as its bundle is open. Raises NotServing before that."""
        if self._served is None:
            raise NotServing(self.why_not(self.state))
        return self._served

    def why_not(self, state: State) -> str:
        """Why nothing is served in a state, for people."""
        return {
            "ready": "ready",
            "loading": "the model is loading",
            "restarting": "the engine's workers died and are being replaced",
            "draining": "the server is shutting down",
            "dead": self._dead or "the engine is dead",
        }[state]

    def hold(self, size: int) -> None:
        """Account for ``size`` bytes more of a request's body. Raises Overloaded when all bodies take too much."""
        limit = self.settings.payload_memory
        if self._held_bytes + size > limit:
            raise Overloaded(f"the bodies of all requests take {limit} bytes (--payload-memory)", retry_after_s=1)
        self._held_bytes += size

    def let_go(self, size: int) -> None:
        """A request that held so many bytes is over."""
        self._held_bytes -= size

    @contextmanager
    def seat(self) -> Iterator[None]:
        """A place among the requests in the house, for the task that asks.

        Raises Overloaded when all are taken, and NotServing out of the work when a drain runs out of time.
        """
        limit = self.settings.max_concurrent_requests
        if len(self._seated) >= limit:
            raise Overloaded(f"{limit} requests are in progress; no more are accepted", retry_after_s=1)
        task = asyncio.current_task()
        assert task is not None
        self._seated.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._evicted:
                raise
            task.uncancel()
            raise NotServing("the server shut down before this request was answered") from None
        finally:
            self._seated.discard(task)

    def start(self) -> None:
        """Begin to load; `/health` answers meanwhile."""
        self._life = asyncio.create_task(self._load())
        self._lag.start()

    def reload_tiers(self) -> None:
        """Read the tiers anew; a file that cannot be used leaves those in force that were."""
        path, served = self.settings.tiers, self._served
        if path is None:
            logs.event("nothing_to_reload", {"note": "SIGHUP reads the file of --tiers again, and there is none"})
            return
        if served is None:
            logs.event("reload_waits", {"note": "the file of --tiers is read again when the model is open"})
            self._reload_waits = True
            return
        try:
            callers = read_tiers(path)
            check_tiers(path, callers, served.planner)
        except TiersError as error:
            logs.event("tiers_kept", {"reason": error}, level=logging.ERROR)
            return
        callers.inherit(self.callers)
        self.callers = callers
        served.scheduler.set_shares({tier.name: tier.share for tier in callers.tiers})
        logs.event("tiers_reloaded", {"tiers": ", ".join(tier.name for tier in callers.tiers)})

    async def drain(self) -> bool:
        """Accept nothing more and answer what was accepted; False when the time for it ran out.

        Accepted is what had a seat: texts that are still being tokenized belong to it.
        """
        self._draining = True
        deadline = monotonic() + self.settings.drain_seconds
        while self._seated and monotonic() < deadline:
            await asyncio.sleep(_LOOK_S / 20)
        self._evicted = set(self._seated)
        for task in self._evicted:
            task.cancel()
        return not self._evicted

    async def stop(self) -> None:
        """End the engine's processes and the threads."""
        self._draining = True
        self._lag.stop()
        self.recorder.stop()
        if self._life:
            self._life.cancel()
            await asyncio.gather(self._life, return_exceptions=True)
        if self._served:
            self._served.tokenizer.close()
        await self._pool.stop()
        if self.tracing:
            await asyncio.to_thread(self.tracing.close)

    async def _load(self) -> None:
        try:
            served = await self._open()
            await served.pool.start()
            served.planner.engine_runs_at(str(served.engine["dtype"]))
            if self.settings.tiers:
                check_tiers(self.settings.tiers, self.callers, served.planner)
            await self._measure(served)
        except Exception as error:
            self._die(str(error) or repr(error))
            return
        _spare_the_collector()
        self._loaded = True
        logs.event("ready", {"model": served.label, **served.engine})
        while served.pool.status != "dead":
            await asyncio.sleep(_LOOK_S)
        if not self._draining:
            self._die("the engine died, and died again each time it was replaced")

    async def _measure(self, served: Served) -> None:
        """Begin the cost model, unless the workers are gone already: then it learns from what comes."""
        bundle = await asyncio.to_thread(Bundle.open, self._pool.bundle, checksums=False)
        sample = await asyncio.to_thread(sample_tokens, bundle)
        manifest = served.manifest
        with suppress(EngineError):
            layers, dim = manifest.architecture.layers, manifest.full_dim
            await measure(served.pool, served.cost, sample, layers, dim, manifest.max_tokens)

    def _die(self, reason: str) -> None:
        self._dead = reason
        logs.event("dead", {"reason": reason}, level=logging.ERROR)
        self.on_death(reason)

    def _on_engine_event(self, name: str, **facts: object) -> None:
        logs.event(name, facts, level=logging.INFO if name == "engine_worker_started" else logging.WARNING)
        if name == "engine_worker_started":
            self.metrics.worker_restarted()

    async def _open(self) -> Served:
        settings, pool = self.settings, self._pool
        bundle = await asyncio.to_thread(Bundle.open, pool.bundle)
        manifest = bundle.manifest
        tokenizer = Tokenizer(
            bundle.path,
            manifest,
            workers=settings.tokenization_workers,
            default_prompt_name=settings.default_prompt_name,
        )
        name = settings.served_model_name or manifest.name
        label = f"{name}@{manifest.revision}"
        planner = Planner(manifest, label, allow_untrained=settings.allow_untrained, task=settings.task)
        if settings.tiers:
            check_tiers(settings.tiers, self.callers, planner)
        limits = Limits(
            settings.max_batch_tokens, settings.max_batch_requests, settings.max_queue_texts, settings.max_queue_tokens
        )
        cost = CostModel()
        scheduler = Scheduler(
            pool, limits, self.metrics, cost, manifest.architecture.layers, shadow_share=settings.shadow_share
        )
        scheduler.set_shares({tier.name: tier.share for tier in self.callers.tiers})
        served = self._served = Served(name, label, manifest, tokenizer, planner, cost, scheduler, pool)
        if self._reload_waits:
            self.reload_tiers()
        self.metrics.model_opened(
            exits=planner.exits_of("query"),
            dims=manifest.dims,
            model=name,
            revision=manifest.revision,
            version=__version__,
        )
        self.metrics.watch(
            in_progress=lambda: len(self._seated),
            tasks=lambda: len(asyncio.all_tasks()),
            queue_size=lambda: scheduler.waiting_tickets,
            queue_tokens=lambda: scheduler.waiting_tokens,
            queue_oldest=lambda: scheduler.oldest_s,
            tokenizing=lambda: tokenizer.backlog,
            workers=lambda: (pool.choice.workers if pool.choice else 0, pool.size, pool.idle),
            busy=pool.busy_seconds,
            level=lambda: scheduler.depth,
            ready=lambda: self.state == "ready",
            log_dropped=logs.dropped,
            resident=lambda: {"front": resident_bytes(), **pool.memory_bytes()},
        )
        if served.warning:
            logs.event("warning", {"model": name, "note": served.warning}, level=logging.WARNING)
        return served


def _callers(settings: Settings) -> Callers:
    if settings.tiers:
        return read_tiers(settings.tiers)
    return one_key(settings.api_key.get_secret_value()) if settings.api_key else everybody()


def _spare_the_collector() -> None:
    """Keep the garbage collector from looking again and again, while requests wait, through what stays for good."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)
