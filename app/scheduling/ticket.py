"""What waits in the queue: a request's texts, each a ticket of its own, answered together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from strata.app.engine.batch import Row, TokenIds, Vector, Vectors
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
        return not self.request.over and self.request.ran[self.index] < 0

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
    due: float  # its place in the queue: its deadline, or for those who have none when the next portion of it is due
    deadline: float  # inf where there is none
    predicted_s: float  # from arrival to answer, as foreseen when it was let in
    within: bool  # let in within its share
    worth: tuple[float | None, ...]  # of each of its terms' exits, as a share of full quality
    admitted: float = 0.0  # when,
    foreseen_s: float = 0.0  # and from then to the answer, as foreseen without regard to what earlier answers took
    behind: bool = False  # others waited or ran then
    vectors: npt.NDArray[np.float32] | None = None  # [texts, dim], of those that have run
    waiting: deque[Ticket] = field(default_factory=deque)
    waiting_tokens: int = 0
    waiting_squares: int = 0  # tokens squared, of each text
    tokens: int = 0
    portion: int = 1 << 30  # texts of it that are due together: all, where it has a deadline,
    pace_s: float = 0.0  # and from one text to the next of its flow where it has none
    turn: float = 0.0  # of these: when that portion would be done by a server of its flow's own,
    token_s: float = 0.0  # and what it takes for a token
    own_s: float = 0.0  # that all of it takes a server of its flow's own
    missing: int = 0
    suspect: bool = False  # a batch of it has failed: from then on it runs by itself
    layers: int = -1  # chosen when its first ticket is run, the same for all; -1 before: exit 0 is a depth
    ran: list[int] = field(default_factory=list)  # layers of each text, as the engine reported; -1 before
    waited_s: float = -1.0  # from when it was admitted until its first text was sent to the engine
    batches: int = 0  # that hold texts of it and are with the engine now,
    since: float = 0.0  # when the first of these was sent,
    inference_s: float = 0.0  # and seconds in which there were any, before

    def fill(self, texts: Sequence[TokenIds]) -> None:
        """Take its texts, all of which wait."""
        self.waiting.extend(Ticket(self, index, ids) for index, ids in enumerate(texts))
        lengths = [len(ids) for ids in texts]
        self.tokens = self.waiting_tokens = sum(lengths)
        self.waiting_squares = sum(length * length for length in lengths)
        self.missing = len(texts)
        self.ran = [-1] * len(texts)

    def take(self, count: int) -> list[Ticket]:
        """Take the first ``count`` of what waits."""
        if count == len(self.waiting):
            taken = list(self.waiting)
            self.waiting.clear()
            self.waiting_tokens = self.waiting_squares = 0
        else:
            taken = [self.waiting.popleft() for _ in range(count)]
            self._wait(taken, -1)
        for ticket in taken:
            ticket.waiting = False
        return taken

    def put_back(self, ticket: Ticket) -> None:
        """Put one in front of what waits."""
        self.waiting.appendleft(ticket)
        ticket.waiting = True
        self._wait([ticket], 1)

    def withdraw(self, ticket: Ticket) -> None:
        """Take one out, wherever it is."""
        self.waiting.remove(ticket)
        ticket.waiting = False
        self._wait([ticket], -1)

    def _wait(self, tickets: Sequence[Ticket], sign: int) -> None:
        for ticket in tickets:
            length = len(ticket.tokens)
            self.waiting_tokens += sign * length
            self.waiting_squares += sign * length * length

    @property
    def own_left_s(self) -> float:
        """Of `own_s`, what its waiting texts take."""
        return self.own_s * self.waiting_tokens / self.tokens

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
        """A batch with texts of it was sent to the engine."""
        if self.waited_s < 0:
            self.waited_s = now - self.admitted
        if not self.batches:
            self.since = now
        self.batches += 1

    def returned(self, now: float) -> None:
        """Such a batch is back, or lost."""
        self.batches -= 1
        if not self.batches:
            self.inference_s += now - self.since

    def settle(self, tickets: Sequence[Ticket], vectors: Vectors, layers: Sequence[int], now: float) -> bool:
        """Take the vectors of some texts; whether they completed the answer. What was run twice is answered once."""
        places = [ticket.index for ticket in tickets]
        count = len(self.ran)
        if self.missing == count and places == list(range(count)):  # all of them in one batch: nothing is copied
            self.vectors = vectors if isinstance(vectors, np.ndarray) else _stacked(vectors)
            self.ran = list(layers)
            self.missing = 0
        else:
            if self.vectors is None:
                self.vectors = np.empty((count, self.terms.dim), np.float32)
            for place, vector, ran in zip(places, vectors, layers, strict=True):
                if self.ran[place] < 0:
                    self.vectors[place], self.ran[place] = vector, ran
                    self.missing -= 1
        if self.missing or self.over:
            return False
        inference_s = self.inference_s + (now - self.since if self.batches else 0.0)
        self.answer.set_result(
            Answer(
                self.vectors,
                max(self.ran),
                self.terms.dim,
                self.tokens,
                now - self.admitted - inference_s,
                inference_s,
                tuple(self.ran) if self.terms.threshold is not None else (),
                self.predicted_s,
            )
        )
        return True

    def fail(self, error: Exception) -> None:
        """Answer with an error, unless already answered."""
        if not self.over:
            self.answer.set_exception(error)


def _stacked(vectors: Sequence[Vector]) -> npt.NDArray[np.float32]:
    """[texts, dim]; of one, which most requests have, without a copy."""
    return vectors[0][np.newaxis] if len(vectors) == 1 else np.stack(vectors)
