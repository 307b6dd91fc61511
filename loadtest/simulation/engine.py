"""An engine that takes the time a real one would, and computes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from math import inf
from types import SimpleNamespace

import numpy as np

from strata.app.engine.batch import Batch, BatchResult
from strata.app.planning.cost import Load


@dataclass(frozen=True)
class Speed:
    """True seconds of a batch: fixed, per layer of the deepest row, per token, and per token and layer.

    The defaults are what `strata serve` measured for its default bundle on one core of an AMD EPYC 7003.
    """

    batch: float = 2e-4
    layer: float = 8e-4
    token: float = 3e-6
    token_layer: float = 6.8e-5
    noise: float = 0.08  # standard deviation of the logarithm
    gap: float = 0.0  # from a batch's end until its worker can get the next one: a front that is busy with callers

    def seconds(self, load: Load) -> float:
        """Without noise."""
        return self.batch + self.layer * load.layers + self.token * load.tokens + self.token_layer * load.token_layers


class SimulatedPool:
    """What the scheduler sees of an EnginePool."""

    def __init__(self, workers: int, speed: Speed, rng: np.random.Generator) -> None:
        self.size = self.idle = workers
        self.status = "ready"
        self.choice = SimpleNamespace(device="cpu")
        self.on_idle: Callable[[], None] = lambda: None
        self.busy_s = 0.0
        self.fails: Callable[[Batch], bool] = lambda batch: False
        self._speed = speed
        self._rng = rng

    def run(self, batch: Batch, patience_s: float = inf) -> Coroutine[None, None, BatchResult]:
        """Take an idle worker and run a batch on it; it never hangs."""
        assert self.idle > 0, "a batch was sent to a busy engine"
        self.idle -= 1
        return self._run(batch)

    async def _run(self, batch: Batch) -> BatchResult:
        load = Load.of((len(row.tokens), row.layers) for row in batch.rows)
        seconds = self._speed.seconds(load) * float(np.exp(self._speed.noise * self._rng.standard_normal()))
        await asyncio.sleep(seconds)
        self.busy_s += seconds
        if self._speed.gap:
            asyncio.get_running_loop().call_later(self._speed.gap, self._free)
        else:
            self._free()
        if self.fails(batch):
            raise RuntimeError("the simulated engine failed")
        vectors = [np.zeros(row.dim, np.float32) for row in batch.rows]
        return BatchResult(vectors, [row.layers for row in batch.rows], seconds, 0)

    def _free(self) -> None:
        self.idle += 1
        self.on_idle()
