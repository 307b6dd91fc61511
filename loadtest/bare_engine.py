"""The engine driven directly: no HTTP, no tokenizer, no tickets; the most its workers can give."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from strata.app.engine.batch import Batch, BatchResult, Row

if TYPE_CHECKING:
    from strata.app.engine.batch import TokenIds
    from strata.app.engine.pool import EnginePool

_LEAST_SHARE = 192  # tokens; as the server, do not split less than this among idle workers


class BareEngine:
    """Runs tokenized texts on a started pool, with batches formed by the server's rule."""

    def __init__(self, pool: EnginePool, max_batch_tokens: int) -> None:
        self._pool = pool
        self._max_batch_tokens = max_batch_tokens

    async def run(self, texts: Sequence[TokenIds], layers: int, dim: int, outstanding: int) -> float:
        """Seconds to run all texts with at most ``outstanding`` waiting or running at a time."""
        coming = iter([Row(ids, layers, dim) for ids in texts])
        waiting: deque[Row] = deque()
        running: dict[asyncio.Future[BatchResult], int] = {}
        began = time.perf_counter()
        free = outstanding
        while True:
            waiting.extend(row for _, row in zip(range(free), coming))  # noqa: B905 - whichever ends first
            free = 0
            while waiting and self._pool.idle:
                batch = self._next_batch(waiting)
                running[self._pool.run(batch)] = len(batch.rows)
            if not running:
                return time.perf_counter() - began
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
                free += running.pop(task)

    def _next_batch(self, waiting: deque[Row]) -> Batch:
        share = max(math.ceil(sum(len(row.tokens) for row in waiting) / self._pool.idle), _LEAST_SHARE)
        limit = min(share, self._max_batch_tokens)
        rows = [waiting.popleft()]
        tokens = len(rows[0].tokens)
        while waiting and tokens + len(waiting[0].tokens) <= limit:
            rows.append(waiting.popleft())
            tokens += len(rows[-1].tokens)
        return Batch(rows)
