"""A model in service, and what a request passes on its way through it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from strata.app.engine.cpu import usable_cores
from strata.app.engine.pool import EnginePool
from strata.app.planning.cost import CostModel
from strata.app.planning.planner import Planner
from strata.app.scheduling.limits import Limits
from strata.app.scheduling.scheduler import Scheduler
from strata.app.settings import Settings
from strata.app.telemetry.metrics import Metrics
from strata.app.tokenizer import FEW_THREADS, Tokenizer
from strata.model_store.bundle.bundle import Bundle
from strata.model_store.bundle.manifest import Manifest

_UNTRAINED = (
    "ONLY FULL DEPTH IS TRAINED: this model was not trained to stop early, and its shallow vectors are of no use"
)


@dataclass(frozen=True)
class Served:
    """One model with its tokenizer, planner, scheduler and engine."""

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
    def dtype(self) -> str:
        """The arithmetic of the engine; empty until it has chosen."""
        return self.pool.choice.dtype if self.pool.choice else ""

    @property
    def spare_cores(self) -> int:
        """Cores that neither the engine nor the front's loop needs, once the engine has chosen."""
        choice = self.pool.choice
        return max(0, usable_cores() - 1 - choice.workers * choice.threads) if choice else 0

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


async def open_model(settings: Settings, pool: EnginePool, metrics: Metrics) -> Served:
    """Open the pool's bundle, its checksums compared; the engine need not have started."""
    bundle = await asyncio.to_thread(Bundle.open, pool.bundle)
    manifest = bundle.manifest
    name = settings.served_model_name or manifest.name
    label = f"{name}@{manifest.revision}"
    tokenizer = Tokenizer(
        bundle.path,
        manifest,
        workers=settings.tokenization_workers or FEW_THREADS,
        default_prompt_name=settings.default_prompt_name,
    )
    planner = Planner(manifest, label, allow_untrained=settings.allow_untrained, task=settings.task)
    limits = Limits(
        settings.max_batch_tokens, settings.max_batch_requests, settings.max_queue_texts, settings.max_queue_tokens
    )
    cost = CostModel()
    scheduler = Scheduler(pool, limits, metrics, cost, manifest.architecture.layers, shadow_share=settings.shadow_share)
    return Served(name, label, manifest, tokenizer, planner, cost, scheduler, pool)
