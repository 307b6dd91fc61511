"""What waits in the queue: a request's texts, each a ticket of its own, answered together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from strata.app.engine.batch import Row, TokenIds, Vector
from strata.app.planning.plan import Terms
from strata.app.scheduling.learnt import Flow
from strata.app.scheduling.result import Answer


@dataclass(slots=True, eq=False)
class Ticket:
    """One planned text."""

    request: Admitted
    index: int  # of the text in its request
    tokens: TokenIds
    attempts: int = 0  # batches it was in that failed
    waiting: bool = True
    running: int = 0  # batches that it is in now: more than one where the first is overdue

    @property
    def wanted(self) -> bool:
        """Whether an answer is still to be had, and somebody waits for it."""
        return not self.request.over and self.request.vectors[self.index] is None

    def row(self) -> Row:
        """The text as the engine takes it, once its request has its depth."""
        request = self.request
        return Row(self.tokens, request.layers, request.terms.dim, request.normalize, request.terms.threshold)


@dataclass(slots=True, eq=False)
class Admitted:
    """A request that was let in; it is answered once, when its last ticket is. Times in the scheduler's clock."""

    answer: asyncio.Future[Answer]
    terms: Terms
    flow: Flow  # tier, and the caller in it
    normalize: bool
    arrived: float
    due: float  # its place in the queue: its deadline, or for those who have none what their share promises
    deadline: float  # inf where there is none
    predicted_s: float  # from arrival to answer, as foreseen when it was let in
    within: bool  # let in within its share
    worth: tuple[float | None, ...]  # of each of its terms' exits, as a share of full quality
    admitted: float = 0.0  # when,
    foreseen_s: float = 0.0  # and from then to the answer, as foreseen without regard to what earlier answers took
    behind: bool = False  # others waited or ran then
    vectors: list[Vector | None] = field(default_factory=list)
    waiting: deque[Ticket] = field(default_factory=deque)
    waiting_tokens: int = 0
    tokens: int = 0
    missing: int = 0
    suspect: bool = False  # a batch of it has failed: from then on it runs by itself
    layers: int = -1  # chosen when its first ticket is run, the same for all; -1 before: exit 0 is a depth
    ran: list[int] = field(default_factory=list)  # layers of each text, as the engine reported
    waited_s: float = -1.0  # until its first text was sent to the engine,
    queue_s: float = 0.0  # and until its last was
    inference_s: float = 0.0

    def fill(self, texts: Sequence[TokenIds]) -> None:
        """Take its texts, all of which wait."""
        self.waiting.extend(Ticket(self, index, ids) for index, ids in enumerate(texts))
        self.tokens = self.waiting_tokens = sum(map(len, texts))
        self.missing = len(texts)
        self.vectors = [None] * len(texts)
        self.ran = [0] * len(texts)

    @property
    def over(self) -> bool:
        """Answered, failed or given up: its tickets need not run."""
        return self.answer.done()

    @property
    def exits(self) -> tuple[int, ...]:
        """What it may still be run at: once part of it has run, only that depth."""
        return (self.layers,) if self.layers >= 0 else self.terms.exits

    @property
    def quality(self) -> tuple[float | None, ...]:
        """What each of these exits is worth."""
        return (self.worth[self.terms.exits.index(self.layers)],) if self.layers >= 0 else self.worth

    def sent(self, now: float) -> None:
        """Texts of it were sent to the engine."""
        self.queue_s = now - self.arrived
        if self.waited_s < 0:
            self.waited_s = self.queue_s

    def settle(self, index: int, vector: Vector, layers: int) -> bool:
        """Take one text's vector; whether it completed the answer. What was run twice is answered once."""
        if self.vectors[index] is not None:
            return False
        self.vectors[index] = vector
        self.ran[index] = layers
        self.missing -= 1
        if self.missing or self.over:
            return False
        rows = vector[np.newaxis] if len(self.vectors) == 1 else np.stack([v for v in self.vectors if v is not None])
        self.answer.set_result(
            Answer(
                rows,
                max(self.ran),
                self.terms.dim,
                self.tokens,
                self.queue_s,
                self.inference_s,
                tuple(self.ran) if self.terms.threshold is not None else (),
                self.predicted_s,
            )
        )
        return True

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless already answered."""
        if not self.over:
            self.answer.set_exception(error)
