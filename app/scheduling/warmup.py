"""The cost model's first measurement: a few batches on every worker at once, as they will run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter

from strata.app.engine.batch import Batch, Row, TokenIds
from strata.app.engine.pool import EnginePool
from strata.app.planning.cost import CostModel, Load

_ROUNDS = 2


async def measure(pool: EnginePool, cost: CostModel, sample: Sequence[TokenIds], layers: int, dim: int) -> None:
    """Run ``sample`` texts on all idle workers, few and many, shallow and half deep, and begin the model with that.

    Time grows evenly with layers, so that half of them tell enough and start-up stays short.
    """
    half = (layers + 1) // 2
    shapes = [(texts, depth) for texts in (1, 3, len(sample)) for depth in sorted({1, half})]
    found: list[tuple[Load, float]] = []

    async def timed(batch: Batch) -> None:
        began = perf_counter()
        await pool.run(batch)
        found.append((Load.of((len(row.tokens), row.layers) for row in batch.rows), perf_counter() - began))

    for _ in range(_ROUNDS):
        for texts, depth in shapes:
            batch = Batch([Row(ids, depth, dim) for ids in sample[:texts]])
            await asyncio.gather(*(timed(batch) for _ in range(pool.idle)))
    cost.measured(found)
