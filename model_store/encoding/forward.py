"""Rows in micro-batches of near-equal length, several at once on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from strata.model_store.encoding.buckets import buckets
from strata.model_store.encoding.tokens import pad

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class MicroBatch:
    """Row numbers in the step, and their padded tokens."""

    rows: list[int]
    features: dict[str, Tensor]


class Lanes:
    """Where micro-batches run: on a GPU one lane; on a CPU one thread a core, each taking the next when it is free.

    Two lanes of one thread beat one of two threads on a machine with other work: no barrier after every operation
    waits for a thread that has lost its core. Torch's own thread count is 1 from here to ``close`` where there are
    several lanes.
    """

    def __init__(self, count: int, device: torch.device, precision: str) -> None:
        self.count = count
        self.device = device
        self.precision = precision
        self._pool = ThreadPoolExecutor(count) if count > 1 else None
        self._threads = torch.get_num_threads()
        if self._pool is not None:
            torch.set_num_threads(1)

    def close(self) -> None:
        """End the threads and give torch its own back."""
        if self._pool is not None:
            self._pool.shutdown()
            torch.set_num_threads(self._threads)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Meanwhile the caller's own operations run on all lanes' cores; no lane may be at work."""
        if self._pool is None:
            yield
            return
        torch.set_num_threads(self.count)
        try:
            yield
        finally:
            torch.set_num_threads(1)

    def micro_batches(self, rows: Sequence[Sequence[int]], pad_id: int, max_tokens: int) -> list[MicroBatch]:
        """Rows of token ids in buckets of at most ``max_tokens``, longest first."""
        groups = buckets([len(row) for row in rows], max_tokens)
        return [MicroBatch(group, pad([rows[i] for i in group], pad_id, self.device)) for group in groups]

    def map(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """``work`` of each item, results in the items' order."""
        return list(map(work, items)) if self._pool is None else list(self._pool.map(work, items))
