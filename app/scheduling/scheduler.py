"""Admission, and the loop that feeds the workers: at each dispatch the batch and the depths are chosen together."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from time import perf_counter

from strata.app.engine.batch import Batch, BatchResult, TokenIds, Vector
from strata.app.engine.link import EngineError
from strata.app.engine.pool import EnginePool
from strata.app.metrics import Metrics
from strata.app.planning.cost import CostModel, Load
from strata.app.planning.plan import Terms
from strata.app.scheduling.admission import Shares
from strata.app.scheduling.answer import Answer
from strata.app.scheduling.errors import DeadlinePassed, EngineFailure, NotServing, Overloaded, TooBusy
from strata.app.scheduling.limits import Limits
from strata.app.scheduling.outlook import Outlook
from strata.app.scheduling.shadow import ShadowRuns
from strata.app.scheduling.ticket import Admitted, Ticket

_ATTEMPTS = 2  # batches a text may fail in before its request fails
# A request takes two turns of the loop from its socket to the queue. No wait window: an idle loop turns at once.
_TURNS = 3
_HANGS = 20.0  # times its predicted time, after which a batch's worker is held to hang,
_HANGS_S = 10.0  # but never before this: a machine that is short of time is no fault of the worker's


class Scheduler:
    """Admits whole requests, forms batches, hands them to idle workers, answers each request exactly once.

    ``layers``: of the model. ``clock``: seconds, of the same clock as the ``arrived`` given to ``submit``.
    """

    def __init__(
        self,
        pool: EnginePool,
        limits: Limits,
        metrics: Metrics,
        cost: CostModel,
        layers: int,
        clock: Callable[[], float] = perf_counter,
        shadow_share: float = 0.0,
    ) -> None:
        self._pool = pool
        self._limits = limits
        self._metrics = metrics
        self._cost = cost
        self._clock = clock
        self.outlook = Outlook(pool, limits, cost, layers, clock)
        self._queue = self.outlook.queue
        self._shadow = ShadowRuns(shadow_share, layers, metrics)
        self.shares = Shares()
        self._woken = False
        self._idle_since: deque[float] = deque()  # of workers that ended a batch while something waited
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
    def oldest_s(self) -> float:
        """Seconds since the arrival of the request that has waited longest; 0 if none waits."""
        now = self._clock()
        return now - min((request.arrived for request in self._queue.requests), default=now)

    def check_room(self, texts: int, tokens: int) -> None:
        """Raise Overloaded when the queue cannot take this much more, NotServing when the engine is dead."""
        if self._pool.status == "dead":
            raise NotServing("the engine is dead")
        queue, limits = self._queue, self._limits
        if queue.texts + texts > limits.max_queue_texts or queue.tokens + tokens > limits.max_queue_tokens:
            raise Overloaded(
                f"the queue holds {queue.texts} texts ({queue.tokens} tokens) of at most {limits.max_queue_texts} "
                f"({limits.max_queue_tokens}); there is no room for {texts} more",
                self.outlook.seconds_to_clear(),
            )

    async def submit(
        self, texts: Sequence[TokenIds], terms: Terms, *, normalize: bool, arrived: float | None = None
    ) -> Answer:
        """Queue a request and await its answer.

        Raises Overloaded, TooBusy or NotServing at once, DeadlinePassed or EngineFailure later. ``arrived``: when the
        request came in (default: now); its deadline counts from there. Cancelling withdraws what has not been run.
        """
        now = self._clock()
        arrived = now if arrived is None else arrived
        tokens = sum(map(len, texts))
        self.check_room(len(texts), tokens)
        deadline = arrived + terms.deadline_s if terms.deadline_s else math.inf
        due = self.outlook.due(arrived, deadline, 0.0 if terms.deadline_s else self._turn_of(terms, tokens))
        predicted = self._admit(terms, tokens, deadline - now, due)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        request = Admitted(
            answer, terms, normalize, arrived, due, deadline, now - arrived + predicted, [None] * len(texts)
        )
        request.waiting.extend(Ticket(request, index, ids) for index, ids in enumerate(texts))
        request.tokens = request.waiting_tokens = tokens
        request.missing = len(texts)
        request.ran = [0] * len(texts)
        self.outlook.let_in(len(texts), tokens, terms.deadline_s)
        self._queue.add(request)
        self._wake()
        expiry = loop.call_later(deadline - now, self._expire, request) if terms.deadline_s else None
        try:
            return await answer
        except asyncio.CancelledError:
            answer.cancel()
            self._queue.remove(request)
            raise
        finally:
            if expiry:
                expiry.cancel()

    def _turn_of(self, terms: Terms, tokens: int) -> float:
        engine = self.outlook.engine()
        return self.shares.turn(terms.tier, engine.work(tokens, terms.exits[-1]), self._clock(), engine.workers)

    def _admit(self, terms: Terms, tokens: int, slack: float, due: float) -> float:
        """Predicted seconds to the answer. Raises TooBusy when not even the floor is in time."""
        if terms.deadline_s:
            now, engine = self._clock(), self.outlook.engine()
            work = engine.work(tokens, terms.exits[0])
            if late := self.outlook.lateness(work, slack, due, self.shares.bound(terms.tier, now, engine.workers)):
                self._metrics.tier_refused(terms.tier, "deadline")
                raise TooBusy(
                    f"{terms.exits[0]} layers, the least this request may get, would be ready about "
                    f"{1000 * late:.0f} ms too late, given what is queued",
                    late,
                )
            self.shares.let_in(terms.tier, work, now)
        return self.outlook.expected(terms, tokens)

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
            for request in self._queue.drain():
                self._fail(request, "the engine is dead")
        while self._pool.idle and self._anything_waits():
            began = perf_counter()
            choice = self.outlook.next_batch()
            tickets = self._queue.take(choice.parts)
            predicted = self._cost.seconds(choice.load)
            if self._idle_since:
                self.outlook.was_idle(self._clock() - self._idle_since.popleft())
            # The pool marks a worker busy here and now; the task only awaits its answer.
            batch = Batch([ticket.row() for ticket in tickets])
            running = self._run(batch, predicted)
            self._keep(self._finish(tickets, batch, choice.load, predicted, running), predicted)
            self._metrics.decided(perf_counter() - began)
        if not self._queue:
            self._idle_since.clear()
        if self._shadow and not self._queue and self._pool.idle == self._pool.size > 0:
            row, vector, layers = self._shadow.next()
            load = Load.of([(len(row.tokens), row.layers)])
            predicted = self._cost.seconds(load)
            running = self._run(Batch([row]), predicted)
            self._keep(self._compare(vector, layers, running), predicted)

    def _run(self, batch: Batch, predicted: float) -> Coroutine[None, None, BatchResult]:
        if not self._cost.known:
            return self._pool.run(batch)
        return self._pool.run(batch, max(_HANGS_S, _HANGS * predicted))

    def _keep(self, work: Coroutine[None, None, None], predicted: float) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self.outlook.running[task] = self._clock() + predicted
        task.add_done_callback(self.outlook.running.pop)

    async def _compare(self, vector: Vector, layers: int, running: Awaitable[BatchResult]) -> None:
        with suppress(EngineError):  # nobody waits for it
            self._shadow.compare(await running, vector, layers)

    def _anything_waits(self) -> bool:
        """Whether there is anything to run, once what cannot be in time any more is given up.

        Running that would make others late for an answer that nobody waits for.
        """
        while self._queue and self.outlook.hopeless():
            self._expire(self._queue.requests[0])
        return bool(self._queue)

    async def _finish(
        self, tickets: list[Ticket], batch: Batch, load: Load, predicted: float, running: Awaitable[BatchResult]
    ) -> None:
        sent = self._clock()
        for ticket in tickets:
            ticket.request.sent(sent)
        try:
            result = await running
        except Exception as error:  # whatever it is, the callers must hear of it
            self._try_again(tickets, error)
            return
        now = self._clock()
        took = now - sent
        if self._queue:
            self._idle_since.append(now)
        self._metrics.batch_done(len(tickets), batch.tokens, result.padded_tokens, result.seconds, result.layers)
        if any(row.threshold is not None for row in batch.rows):  # how deep they would go, nobody knew
            load = Load.of((len(row.tokens), ran) for row, ran in zip(batch.rows, result.layers, strict=True))
            predicted = self._cost.seconds(load)
        self._metrics.batch_predicted(predicted, took)
        self._cost.observe(load, took)
        for ticket, vector, layers in zip(tickets, result.vectors, result.layers, strict=True):
            request = ticket.request
            request.inference_s = max(request.inference_s, took)
            self._shadow.offer(ticket.tokens, vector, layers)
            if request.settle(ticket.index, vector, layers):
                self._answered(request, now)

    def _answered(self, request: Admitted, now: float) -> None:
        terms = request.terms
        worth = terms.quality[terms.exits.index(request.layers)]
        self._metrics.tier_answered(
            terms.tier,
            layers=max(request.ran),
            quality=(worth.task, worth.share) if worth else None,
            waited_s=request.waited_s,
            slack_s=request.deadline - now if terms.deadline_s else None,
            predicted_s=request.predicted_s,
            real_s=now - request.arrived,
        )

    def _expire(self, request: Admitted) -> None:
        """The deadline passed. What waits is not run; what is with the engine comes late, and says so."""
        if self._queue.remove(request):
            self._metrics.tier_expired(request.terms.tier)
            request.fail(DeadlinePassed(f"the deadline of {1000 * (request.terms.deadline_s or 0):.0f} ms has passed"))

    def _fail(self, request: Admitted, reason: str) -> None:
        if not request.over:
            self._metrics.tier_failed(request.terms.tier)
            request.fail(EngineFailure(reason))

    def _try_again(self, tickets: list[Ticket], error: Exception) -> None:
        """Run the texts of a failed batch once more, request by request, so that only the one at fault fails."""
        for ticket in tickets:
            ticket.attempts += 1
            ticket.request.suspect = True
            if ticket.attempts == _ATTEMPTS:
                self._queue.remove(ticket.request)
                self._fail(ticket.request, str(error) or repr(error))
        self._queue.put_back(ticket for ticket in reversed(tickets) if not ticket.request.over)
        self._wake()
