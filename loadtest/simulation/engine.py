"""An engine that takes the time a real one would, and computes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from types import SimpleNamespace

import numpy as np

from strata.app.engine.batch import Batch, BatchResult
from strata.app.engine.link import BatchFailed, Done, WorkerLost
from strata.app.planning.cost import Load


@dataclass(frozen=True)
class Speed:
    """True seconds of a batch: fixed, per layer of the deepest row, per token, and per token, row or pair and layer.

    The defaults are what `strata serve` measured for its default bundle on one core of an AMD EPYC 7003.
    """

    batch: float = 2e-4
    layer: float = 8e-4
    token: float = 3e-6
    token_layer: float = 6.8e-5
    square_layer: float = 0.0  # tokens squared: attention
    noise: float = 0.08  # standard deviation of the logarithm
    gap: float = 0.0  # from a batch's end until its worker can get the next one: a front that is busy with callers
    stall: float = 0.0  # probability that a batch is held up,
    stall_s: float = 0.0  # for so long
    steal: float = 0.0  # of a worker's time, how much the front and its callers take for each second they are busy

    def seconds(self, load: Load) -> float:
        """Without noise, stalls and thieves."""
        return (
            self.batch
            + self.layer * load.layers
            + self.token * load.tokens
            + self.token_layer * load.token_layers
            + self.square_layer * load.square_layers
        )


class SimulatedPool:
    """What the scheduler sees of an EnginePool. Workers may be stopped, killed and started."""

    def __init__(self, workers: int, speed: Speed, rng: np.random.Generator) -> None:
        self.size = self.idle = workers
        self.status = "ready"
        self.choice = SimpleNamespace(device="cpu")
        self.on_idle: Callable[[], None] = lambda: None
        self.busy_s = 0.0
        self.front_busy_s = 0.0  # of the front, so far
        self.lost = 0
        self.restart_s = 0.05  # until a worker that was lost is replaced
        self.fails: Callable[[Batch], bool] = lambda batch: False
        self.hangs: Callable[[Batch], float] = lambda batch: 0.0  # seconds that a batch's worker stands still; inf
        self.speed = speed
        self._rng = rng
        self._tasks: set[asyncio.Task[None]] = set()
        self._hands: list[asyncio.Event] = []  # of the batches under way: set when the worker is killed

    def start_batch(self, batch: Batch, patience_s: float, done: Done) -> None:
        """Run a batch on an idle worker; ``done`` is called when it has ended, WorkerLost after ``patience_s``."""
        assert self.idle > 0, "a batch was sent to a busy engine"
        self.idle -= 1
        killed = asyncio.Event()
        self._hands.append(killed)
        task = asyncio.get_running_loop().create_task(self._run(batch, patience_s, killed, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def look(self) -> None:
        """Answers are told the moment they are there."""

    def kill(self) -> None:
        """End a worker: a busy one, if there is any."""
        if self._hands:
            self._hands[0].set()
        elif self.idle:
            self.idle -= 1
            self._lose()

    async def _run(self, batch: Batch, patience_s: float, killed: asyncio.Event, done: Done) -> None:
        load = Load.of((len(row.tokens), row.layers) for row in batch.rows)
        seconds = self.speed.seconds(load) * float(np.exp(self.speed.noise * self._rng.standard_normal()))
        if self.speed.stall and self._rng.random() < self.speed.stall:
            seconds += self.speed.stall_s
        wait = min(seconds + self.hangs(batch), patience_s)
        ended = await self._pass(wait, killed)
        self._hands.remove(killed)
        self.busy_s += seconds
        if ended or wait >= patience_s:
            self._lose()
            done(WorkerLost("the simulated worker was killed" if ended else "the simulated worker hung"))
            return
        if not self.speed.gap:
            self.idle += 1
        if self.fails(batch):
            done(BatchFailed("the simulated engine failed"))
        else:
            vectors = [np.zeros(row.dim, np.float32) for row in batch.rows]
            done(BatchResult(vectors, [row.layers for row in batch.rows], seconds, 0))
        if self.speed.gap:
            asyncio.get_running_loop().call_later(self.speed.gap, self._free)
        else:
            self.on_idle()

    async def _pass(self, seconds: float, killed: asyncio.Event) -> bool:
        """Let so much of a worker's time pass, longer while the front takes part of the core; whether it was killed."""
        while seconds > 1e-9:
            before = self.front_busy_s
            try:
                async with asyncio.timeout(seconds):
                    await killed.wait()
                return True
            except TimeoutError:
                seconds = self.speed.steal * (self.front_busy_s - before)
        return False

    def _lose(self) -> None:
        self.size -= 1
        self.lost += 1
        if self.restart_s < inf:
            asyncio.get_running_loop().call_later(self.restart_s, self.start)

    def start(self) -> None:
        """One worker more."""
        self.size += 1
        self._free()

    def _free(self) -> None:
        self.idle += 1
        self.on_idle()
