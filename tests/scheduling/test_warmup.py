"""The cost model's first measurement covers the batches that are really run, and no more than starting may take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest

from strata.app.engine.batch import Batch, BatchResult
from strata.app.planning.cost import CostModel, Load
from strata.app.scheduling import warmup

SAMPLE = [np.arange(n, dtype=np.int32) for n in (18, 22, 4, 25, 20, 40, 19, 9, 16, 24)]


class Machine:
    """A worker whose batches take what ``seconds`` says of their tokens and layers."""

    idle = size = 1

    def __init__(self, seconds: Callable[[int, int], float]) -> None:
        self._seconds = seconds
        self.now = 0.0
        self.most = 0  # tokens of the largest batch

    async def run(self, batch: Batch) -> BatchResult:
        tokens = len(batch.ids)
        self.most = max(self.most, tokens)
        self.now += self._seconds(tokens, batch.rows[0].layers)
        return BatchResult([], [], 0.0, 0)

    def measured(self, batch_tokens: int, monkeypatch: pytest.MonkeyPatch) -> CostModel:
        monkeypatch.setattr(warmup, "perf_counter", lambda: self.now)
        cost = CostModel()
        asyncio.run(warmup.measure(self, cost, SAMPLE, 12, 384, 512, batch_tokens))
        return cost


def test_a_gpus_full_batch_is_foreseen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to some thousand tokens a GPU takes no longer than for a few, which tells nothing of its full batches."""

    def h200(tokens: int, layers: int) -> float:
        """About what one text and 1,024 take on an H200."""
        return 1e-4 + layers * max(3e-5, 1.25e-8 * tokens)

    cost = Machine(h200).measured(32_768, monkeypatch)
    predicted = cost.costs.seconds(Load.of([(28, 12)] * 1170))
    assert 0.6 < predicted / h200(28 * 1170, 12) < 1.4


def test_a_slow_machine_starts_without_full_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Machine(lambda tokens, layers: 2e-5 * tokens * layers)
    slow.measured(32_768, monkeypatch)
    assert slow.most <= 4 * sum(map(len, SAMPLE))
