"""What waits in the queue: a request's texts, each a ticket of its own, answered together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np

from app.engine.batch import Row, Vector
from app.scheduling.answer import Answer


@dataclass(slots=True, eq=False)
class Admitted:
    """A request that was let in; it is answered once, when its last ticket is."""

    answer: asyncio.Future[Answer]
    dim: int
    tokens: int
    vectors: list[Vector | None]
    missing: int
    layers: int = 0  # as the engine reported
    queue_s: float = 0.0
    inference_s: float = 0.0

    @property
    def over(self) -> bool:
        """Answered, failed or given up: its tickets need not run."""
        return self.answer.done()

    def settle(self, index: int, vector: Vector, layers: int) -> None:
        """Take one text's vector; the last one completes the answer."""
        self.vectors[index] = vector
        self.layers = layers
        self.missing -= 1
        if self.missing == 0 and not self.over:
            rows = np.stack([v for v in self.vectors if v is not None])
            self.answer.set_result(Answer(rows, layers, self.dim, self.tokens, self.queue_s, self.inference_s))

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless already answered."""
        if not self.over:
            self.answer.set_exception(error)


@dataclass(slots=True, eq=False)
class Ticket:
    """One planned text."""

    request: Admitted
    index: int  # of the text in its request
    row: Row
    arrived: float  # time.perf_counter() seconds
    attempts: int = field(default=0)  # batches it was in that failed
