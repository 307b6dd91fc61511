"""The cost model's first measurement: a few batches on every worker at once, and on one alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from time import perf_counter
from typing import Protocol

import numpy as np

from strata.app.engine.batch import Batch, BatchResult, Row, TokenIds
from strata.app.planning.cost import CostModel, Load

_ROUNDS = 1  # that count: the host has run every size of a batch before its workers were forked
_MOST = 256  # tokens of the longest
_LONG = 6  # times as long as the longest of the sample is a long text
_SHORT = 8  # tokens of a short one
_LARGE = 4  # times the sample is the first of the large batches; each has twice the tokens of the one before
_QUICK_S = 0.05  # one that takes longer is the last of them


class Runs(Protocol):
    """What is asked of the engine."""

    @property
    def size(self) -> int:
        """Workers alive."""

    @property
    def idle(self) -> int:
        """Workers without a batch."""

    def run(self, batch: Batch) -> Awaitable[BatchResult]:
        """Run a batch on an idle worker."""


async def measure(
    pool: Runs,
    cost: CostModel,
    sample: Sequence[TokenIds],
    layers: int,
    dim: int,
    max_tokens: int,
    batch_tokens: int,
) -> None:
    """Run ``sample`` texts on all idle workers, few and many, short and long, shallow and deep, and begin with that.

    Time grows evenly with layers, so that half of them tell enough for many and start-up stays short. Then ever larger
    batches, up to ``batch_tokens`` or until one is no longer quick: a GPU takes thousands of tokens as fast as a few,
    and those would tell nothing of its full batches.
    """
    half = (layers + 1) // 2
    longest = max(sample, key=len)
    short, long = sample[0][:_SHORT], np.resize(longest, min(_LONG * len(longest), _MOST, max_tokens))
    shapes: list[tuple[Sequence[TokenIds], int]] = [
        ([short], 1),
        ([short], layers),
        (sample[:1], half),
        ([long], 1),
        ([long], half),
        (sample[:3], half),
        (sample, 1),
        (sample, half),
        ([short] * 24, half),
    ]
    found: list[tuple[Load, float]] = []
    alone: list[tuple[Load, float]] = []

    async def timed(batch: Batch, found: list[tuple[Load, float]]) -> None:
        began = perf_counter()
        await pool.run(batch)
        found.append((Load.of((len(row.tokens), row.layers) for row in batch.rows), perf_counter() - began))

    for number in range(1 + _ROUNDS):
        for texts, depth in shapes:
            batch = Batch([Row(ids, depth, dim) for ids in texts])
            await asyncio.gather(*(timed(batch, found) for _ in range(pool.idle)))
            if number and pool.size > 1:
                await timed(batch, alone)
        if not number:
            found.clear()  # the first of each shape pays for what is set up once
    times, took = _LARGE, 0.0
    while times * sum(map(len, sample)) <= batch_tokens and took < _QUICK_S:
        texts = [*sample] * times
        times *= 2
        for depth in (1, half):
            batch = Batch([Row(ids, depth, dim) for ids in texts])
            await pool.run(batch)
            began = perf_counter()
            await asyncio.gather(*(timed(batch, found) for _ in range(pool.idle)))
            took = perf_counter() - began
    cost.measured(found, alone)
