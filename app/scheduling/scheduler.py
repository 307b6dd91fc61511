"""Admission, and the loop that feeds the workers: what queued while the last batch ran is the next batch."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from time import perf_counter

from app.engine.batch import Batch, BatchResult, Row, TokenIds
from app.engine.pool import EnginePool
from app.metrics import Metrics
from app.planning.plan import Terms
from app.scheduling.answer import Answer
from app.scheduling.errors import EngineFailure, NotServing, Overloaded
from app.scheduling.queue import TicketQueue
from app.scheduling.ticket import Admitted, Ticket

_ATTEMPTS = 2  # batches a text may fail in before its request fails
# On a CPU a batch of a few hundred tokens is as fast as a large one and keeps the next decision near; a GPU wants bulk.
_BATCH_TOKENS = {"cpu": 512, "cuda": 16_384}
# A request takes two turns of the loop from its socket to the queue. No wait window: an idle loop turns at once.
_TURNS = 3
_LEAST_SHARE = 192  # tokens below which splitting work among idle workers costs more than it saves


@dataclass(slots=True, frozen=True)
class Limits:
    """Sizes of a batch and of the queue."""

    max_batch_tokens: int | None = None  # None: what suits the device
    max_batch_requests: int | None = None  # texts
    max_queue_texts: int = 8192
    max_queue_tokens: int = 524_288


class Scheduler:
    """Admits whole requests, forms batches, hands them to idle workers, answers each request exactly once."""

    def __init__(self, pool: EnginePool, limits: Limits, metrics: Metrics) -> None:
        self._pool = pool
        self._limits = limits
        self._metrics = metrics
        self._queue = TicketQueue()
        self._running: set[asyncio.Task[None]] = set()
        self._woken = False
        self._tokens_per_s = 0.0  # what the engine has lately run; 0 until the first batch
        pool.on_idle = self._wake

    @property
    def waiting_tickets(self) -> int:
        """Texts in the queue."""
        return self._queue.texts

    @property
    def waiting_tokens(self) -> int:
        """Tokens in the queue."""
        return self._queue.tokens

    @property
    def batch_tokens(self) -> int:
        """Most tokens of a batch."""
        device = self._pool.choice.device if self._pool.choice else "cpu"
        return self._limits.max_batch_tokens or _BATCH_TOKENS[device]

    def check_room(self, texts: int, tokens: int) -> None:
        """Raise Overloaded when the queue cannot take this much more, NotServing when the engine is dead."""
        if self._pool.status == "dead":
            raise NotServing("the engine is dead")
        queue, limits = self._queue, self._limits
        if queue.texts + texts > limits.max_queue_texts or queue.tokens + tokens > limits.max_queue_tokens:
            raise Overloaded(
                f"the queue holds {queue.texts} texts ({queue.tokens} tokens) of at most {limits.max_queue_texts} "
                f"({limits.max_queue_tokens}); there is no room for {texts} more",
                self._seconds_to_clear(),
            )

    def _seconds_to_clear(self) -> float:
        return self._queue.tokens / self._tokens_per_s if self._tokens_per_s else 1.0

    async def submit(
        self, texts: Sequence[TokenIds], terms: Terms, *, normalize: bool, arrived: float | None = None
    ) -> Answer:
        """Queue a request and await its answer. Raises Overloaded or NotServing at once, EngineFailure later.

        ``arrived``: when the request came in, in time.perf_counter() seconds (default: now); its deadline counts from
        there. Cancelling withdraws what has not been run.
        """
        arrived = perf_counter() if arrived is None else arrived
        tokens = sum(map(len, texts))
        self.check_room(len(texts), tokens)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        request = Admitted(answer, terms.dim, tokens, [None] * len(texts), len(texts))
        tickets = [
            Ticket(request, index, Row(ids, terms.exits[-1], terms.dim, normalize), arrived)
            for index, ids in enumerate(texts)
        ]
        self._queue.add(tickets)
        self._wake()
        try:
            return await answer
        except asyncio.CancelledError:
            answer.cancel()
            self._queue.withdraw(tickets)
            raise

    def _wake(self) -> None:
        """Dispatch a few turns of the event loop from now: requests whose bytes have arrived get into the batch."""
        if not self._woken:
            self._woken = True
            self._turn(_TURNS)

    def _turn(self, left: int) -> None:
        asyncio.get_running_loop().call_soon(*((self._turn, left - 1) if left else (self._dispatch,)))

    def _dispatch(self) -> None:
        self._woken = False
        if self._pool.status == "dead":
            for ticket in self._queue.drain():
                ticket.request.fail(EngineFailure("the engine is dead"))
        while self._queue and self._pool.idle:
            # Idle workers share what waits, so that one large request uses them all.
            share = max(math.ceil(self._queue.tokens / self._pool.idle), _LEAST_SHARE)
            batch = self._queue.next_batch(min(share, self.batch_tokens), self._limits.max_batch_requests)
            if batch:
                # The pool marks a worker busy here and now; the task only awaits its answer.
                rows = Batch([ticket.row for ticket in batch])
                task = asyncio.get_running_loop().create_task(self._finish(batch, rows, self._pool.run(rows)))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _finish(self, tickets: list[Ticket], batch: Batch, running: Awaitable[BatchResult]) -> None:
        sent = perf_counter()
        for ticket in tickets:
            ticket.request.queue_s = max(ticket.request.queue_s, sent - ticket.arrived)
        try:
            result = await running
        except Exception as error:  # whatever it is, the callers must hear of it
            self._try_again(tickets, error)
            return
        took = perf_counter() - sent
        tokens = batch.tokens
        self._metrics.batch_done(len(tickets), tokens, result.padded_tokens, result.seconds, result.layers)
        self._follow(tokens / took)
        for ticket, vector, layers in zip(tickets, result.vectors, result.layers, strict=True):
            request = ticket.request
            request.inference_s = max(request.inference_s, took)
            request.settle(ticket.index, vector, layers)
            if request.missing == 0:
                self._metrics.request_queued(request.queue_s)

    def _try_again(self, tickets: list[Ticket], error: Exception) -> None:
        """Run the texts of a failed batch once more, request by request, so that only the one at fault fails."""
        again = []
        for ticket in tickets:
            ticket.attempts += 1
            if ticket.attempts < _ATTEMPTS:
                again.append(ticket)
            else:
                ticket.request.fail(EngineFailure(str(error) or repr(error)))
        self._queue.put_back(again)
        self._wake()

    def _follow(self, tokens_per_s: float) -> None:
        """Track the engine's speed (all workers together) for Retry-After."""
        speed = tokens_per_s * (len(self._running) or 1)
        self._tokens_per_s = speed if not self._tokens_per_s else 0.9 * self._tokens_per_s + 0.1 * speed
