"""The life of the server's model: loading, ready, restarting, draining or dead."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, time
from typing import Literal

from strata import __version__
from strata.app.engine.choose import sample_tokens
from strata.app.engine.link import EngineError
from strata.app.engine.pool import EnginePool
from strata.app.gauges import gauges_of
from strata.app.in_flight import InFlight
from strata.app.scheduling.errors import NotServing
from strata.app.scheduling.warmup import measure
from strata.app.served import Served, open_model
from strata.app.settings import Settings
from strata.app.telemetry import logs
from strata.app.telemetry.metrics import Metrics
from strata.app.tiers import Tiers
from strata.app.tokenizer import FEW_THREADS, MANY_THREADS
from strata.app.writers import Writers, writers_beside
from strata.model_store.bundle.bundle import Bundle

State = Literal["loading", "ready", "restarting", "draining", "dead"]

_YOUNG_OBJECTS = 10_000  # new ones between two looks; Python's 700 are those of three requests
_LOOK_S = 0.5  # how often the engine's health is looked at, in seconds
_DRAIN_LOOK_S = 0.025


class Lifecycle:
    """Brings a pool's bundle into service and takes it out again. ``on_death`` is told when it cannot go on."""

    def __init__(
        self,
        settings: Settings,
        pool: EnginePool,
        tiers: Tiers,
        in_flight: InFlight,
        metrics: Metrics,
        writers: Writers,
    ) -> None:
        self.born = int(time())  # Unix seconds
        self.on_death: Callable[[str], None] = lambda reason: None
        self._settings = settings
        self._tiers = tiers
        self._in_flight = in_flight
        self._metrics = metrics
        self._writers = writers
        self._pool = pool
        pool.on_event = self._on_engine_event
        self._served: Served | None = None
        self._loaded = self._draining = False
        self._dead: str | None = None
        self._work: asyncio.Task[None] | None = None

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

    def start(self) -> None:
        """Begin to load; `/health` answers meanwhile."""
        self._work = asyncio.create_task(self._live())

    async def drain(self) -> bool:
        """Accept nothing more and answer what was accepted; False when the time for it ran out.

        Accepted is what has a slot: texts that are still being tokenized belong to it.
        """
        self._draining = True
        deadline = monotonic() + self._settings.drain_seconds
        while len(self._in_flight) and monotonic() < deadline:
            await asyncio.sleep(_DRAIN_LOOK_S)
        return not self._in_flight.evict_all()

    def give_up(self) -> None:
        """Have what is still to be answered refused, now."""
        self._in_flight.evict_all()

    async def stop(self) -> None:
        """End the engine's processes and the threads."""
        self._draining = True
        if self._work:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)
        if self._served:
            self._served.tokenizer.close()
        self._writers.stop()
        await self._pool.stop()

    async def _live(self) -> None:
        """Load the model, then watch the engine until it is dead."""
        try:
            served = await self._load()
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

    async def _load(self) -> Served:
        served = await open_model(self._settings, self._pool, self._metrics)
        self._tiers.apply_to(served)
        self._served = served
        self._report(served)
        await served.pool.start()
        served.planner.engine_runs_at(str(served.engine["dtype"]))
        self._tiers.check_against(served.planner)
        cores = served.spare_cores
        if self._settings.tokenization_workers is None and cores > FEW_THREADS:
            served.tokenizer.use_threads(min(cores, MANY_THREADS))
        writers = writers_beside(cores) if self._settings.writers is None else self._settings.writers
        await asyncio.gather(self._measure(served), self._writers.start(writers))
        return served

    def _report(self, served: Served) -> None:
        """What metrics and log say of a model that is open."""
        self._metrics.model_opened(
            exits=served.planner.exits_of("query"),
            dims=served.manifest.dims,
            model=served.name,
            revision=served.manifest.revision,
            version=__version__,
        )
        self._metrics.gauges = gauges_of(served, self._in_flight, self._writers, lambda: self.state == "ready")
        if served.warning:
            logs.event("warning", {"model": served.name, "note": served.warning}, level=logging.WARNING)

    async def _measure(self, served: Served) -> None:
        """Begin the cost model, unless the workers are gone already: then it learns from what comes."""
        bundle = await asyncio.to_thread(Bundle.open, self._pool.bundle, checksums=False)
        sample = await asyncio.to_thread(sample_tokens, bundle)
        manifest = served.manifest
        with suppress(EngineError):
            layers, dim = manifest.architecture.layers, manifest.full_dim
            most = served.scheduler.batch_tokens
            await measure(served.pool, served.cost, sample, layers, dim, manifest.max_tokens, most)

    def _die(self, reason: str) -> None:
        self._dead = reason
        logs.event("dead", {"reason": reason}, level=logging.ERROR)
        self.on_death(reason)

    def _on_engine_event(self, name: str, **facts: object) -> None:
        logs.event(name, facts, level=logging.INFO if name == "engine_worker_started" else logging.WARNING)
        if name == "engine_worker_started":
            self._metrics.worker_restarted()


def _spare_the_collector() -> None:
    """Keep the garbage collector from looking again and again, while requests wait, through what stays for good."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)
