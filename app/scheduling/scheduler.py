"""Admission, and the loop that feeds the workers: at each dispatch the batch and the depths are chosen together."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter

from app.engine.batch import Batch, BatchResult, TokenIds, Vector
from app.engine.link import EngineError
from app.engine.pool import EnginePool
from app.metrics import Metrics
from app.planning.cost import BatchBounds, CostModel, Load
from app.planning.plan import Plan, Terms
from app.scheduling.admission import Shares, lateness
from app.scheduling.answer import Answer
from app.scheduling.batching import Choice, form
from app.scheduling.depths import Engine, at_level, choose_levels
from app.scheduling.errors import DeadlinePassed, EngineFailure, NotServing, Overloaded, TooBusy
from app.scheduling.ladder import Ladders
from app.scheduling.queue import Columns, DeadlineQueue
from app.scheduling.shadow import ShadowRuns
from app.scheduling.ticket import Admitted, Ticket

_ATTEMPTS = 2  # batches a text may fail in before its request fails
# On a CPU a batch of a few hundred tokens is as fast as a large one and keeps the next decision near; a GPU wants bulk.
_BATCH_TOKENS = {"cpu": 512, "cuda": 16_384}
# A request takes two turns of the loop from its socket to the queue. No wait window: an idle loop turns at once.
_TURNS = 3
_LEAST_SHARE = 192  # tokens below which splitting work among idle workers costs more than it saves
_PATIENCE_S = 10.0  # where a request without a deadline stands in the queue: behind all that is due before
_BATCH_SHARE = 0.25  # of the shortest deadline lately seen that a batch may take: whoever has it may come any time
_SHORTEST_FORGET_S = 60.0
_HANGS = 20.0  # times its predicted time, after which a batch's worker is held to hang,
_HANGS_S = 10.0  # but never before this: a machine that is short of time is no fault of the worker's
_HOPELESS = 0.75  # of the predicted time: what has less left is given up


@dataclass(slots=True, frozen=True)
class Limits:
    """Sizes of a batch and of the queue."""

    max_batch_tokens: int | None = None  # None: what suits the device
    max_batch_requests: int | None = None  # texts
    max_queue_texts: int = 8192
    max_queue_tokens: int = 524_288


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
        self._ladders = Ladders(layers)
        self._queue = DeadlineQueue(self._ladders)
        self._shadow = ShadowRuns(shadow_share, layers, metrics)
        self.shares = Shares()
        self._running: dict[asyncio.Task[None], float] = {}  # until when, as predicted
        self._shortest: tuple[float, float] = (math.inf, 0.0)  # deadline in seconds, and when it was seen
        self._text_tokens = 32.0  # of an average text, lately
        self._woken = False
        self.level = layers
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

    def forecast(self, lengths: Sequence[int], layers: int, *, queued: bool) -> float:
        """Seconds until texts of these token lengths are answered at this depth: behind what is queued now, or alone.

        0 before anything was measured.
        """
        if not queued:  # every request with a deadline asks this
            seconds, tokens = self._cost.seconds, sum(lengths)
            work = seconds(Load(layers, tokens, tokens * layers))
            work += (math.ceil(tokens / self.batch_tokens) - 1) * seconds(Load(layers))  # what every batch costs
            longest = max(lengths, default=0)
            return max(work / max(1, self._pool.size), seconds(Load(layers, longest, longest * layers)))
        engine, now = self._engine(), self._clock()
        terms = Terms((layers,), 0, (None,))
        columns, at = self._with(terms, sum(lengths), now, math.inf, self._queue.place(math.inf))
        return float(engine.finish(at_level(columns, self.level, self._ladders, engine))[at])

    def plan(self, terms: Terms, lengths: Sequence[int]) -> Plan:
        """What a request on these terms would get if it came now."""
        now = self._clock()
        deadline = now + terms.deadline_s if terms.deadline_s else math.inf
        at = self._queue.place(self._due(now, deadline))
        columns, at = self._with(terms, sum(lengths), now, deadline, at)
        engine = self._engine()
        levels = choose_levels(columns, now, math.inf, self._ladders, engine)
        layers = int(self._ladders.depth(columns.ladders[at : at + 1], levels[at])[0])
        predicted = float(engine.finish(at_level(columns, levels, self._ladders, engine))[at])
        return Plan(layers, terms.dim, terms.quality[terms.exits.index(layers)], predicted)

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
        due = self._due(arrived, deadline)
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
        self._text_tokens += 0.01 * (tokens / len(texts) - self._text_tokens)
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

    def _due(self, arrived: float, deadline: float) -> float:
        return min(deadline, arrived + _PATIENCE_S)

    def _admit(self, terms: Terms, tokens: int, slack: float, due: float) -> float:
        """Predicted seconds to the answer. Raises TooBusy when not even the floor is in time."""
        engine, queue = self._engine(), self._queue
        if terms.deadline_s:
            now = self._clock()
            work = engine.work(tokens, terms.exits[0])
            bound = self.shares.bound(terms.tier, now, engine.workers)
            at = queue.place(due)
            late = lateness(queue.columns(), at, work, slack, bound, self._ladders, engine, now)
            if late:
                self._metrics.tier_refused(terms.tier, "deadline")
                raise TooBusy(
                    f"{terms.exits[0]} layers, the least this request may get, would be ready about "
                    f"{1000 * late:.0f} ms too late, given what is queued",
                    late,
                )
            self.shares.let_in(terms.tier, work, now)
            self._shorter(terms.deadline_s, now)
        # All that waits, at the present level: near enough for a forecast, and no work to find.
        before = engine.work(queue.tokens, self.level)
        depth = max((e for e in terms.exits if e <= self.level), default=terms.exits[0])
        return engine.finish_one(before, engine.work(tokens, depth))

    def _with(self, terms: Terms, tokens: int, now: float, deadline: float, at: int) -> tuple[Columns, int]:
        """The queue's columns with a request that is not in it, and its place."""
        goal, limit = self._queue.goal(now, deadline, terms.exits), self._queue.limit(now, deadline)
        ladder = self._ladders.number(terms.exits)
        return self._queue.columns().inserted(at, deadline, limit, goal, tokens, ladder), at

    def _engine(self) -> Engine:
        now = self._clock()
        running = sum(max(0.0, until - now) for until in self._running.values())
        shortest, seen = self._shortest
        seconds = _BATCH_SHARE * shortest if now - seen < _SHORTEST_FORGET_S else math.inf
        bounds = BatchBounds(self.batch_tokens, seconds, self._limits.max_batch_requests, self._text_tokens)
        return Engine(self._cost, max(1, self._pool.size), bounds, running)

    def _shorter(self, deadline_s: float, now: float) -> None:
        shortest, seen = self._shortest
        if deadline_s <= shortest or now - seen >= _SHORTEST_FORGET_S:
            self._shortest = (deadline_s, now)

    def _seconds_to_clear(self) -> float:
        engine, columns = self._engine(), self._queue.columns()
        work = at_level(columns, self.level, self._ladders, engine)
        return (float(work.sum()) + engine.running_s) / engine.workers if self._cost.known else 1.0

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
                request.fail(EngineFailure("the engine is dead"))
        while self._pool.idle and self._drop_hopeless():
            began = perf_counter()
            now = self._clock()
            choice = self._choose(now)
            tickets = self._queue.take(choice.parts)
            rows = [t.row() for t in tickets]
            predicted = self._cost.seconds(choice.load)
            # The pool marks a worker busy here and now; the task only awaits its answer.
            batch = Batch(rows)
            running = self._run(batch, predicted)
            self._keep(self._finish(tickets, batch, choice.load, predicted, running), until=now + predicted)
            self._metrics.decided(perf_counter() - began)
        if self._shadow and not self._queue and self._pool.idle == self._pool.size > 0:
            row, vector, layers = self._shadow.next()
            load = Load.of([(len(row.tokens), row.layers)])
            predicted = self._cost.seconds(load)
            running = self._run(Batch([row]), predicted)
            self._keep(self._compare(vector, layers, running), until=self._clock() + predicted)

    def _run(self, batch: Batch, predicted: float) -> Coroutine[None, None, BatchResult]:
        if not self._cost.known:
            return self._pool.run(batch)
        return self._pool.run(batch, max(_HANGS_S, _HANGS * predicted))

    def _keep(self, work: Coroutine[None, None, None], until: float) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running[task] = until
        task.add_done_callback(self._running.pop)

    async def _compare(self, vector: Vector, layers: int, running: Awaitable[BatchResult]) -> None:
        with suppress(EngineError):  # nobody waits for it
            self._shadow.compare(await running, vector, layers)

    def _drop_hopeless(self) -> bool:
        """Give up what cannot be in time any more, though its deadline has not passed; whether anything waits still.

        Running it would make others late for an answer that nobody waits for.
        """
        now = self._clock()
        while self._queue:
            first = self._queue.requests[0]
            least = self._engine().work(first.waiting_tokens, first.exits[0])
            if first.deadline - now >= _HOPELESS * least / max(1, self._pool.size):
                return True
            self._expire(first)
        return False

    def _choose(self, now: float) -> Choice:
        """The next batch and its depths."""
        queue, engine = self._queue, self._engine()
        # Idle workers share what waits, so that one large request uses them all.
        share = max(math.ceil(queue.tokens / self._pool.idle), _LEAST_SHARE)
        bounds = replace(engine.bounds, tokens=min(share, engine.bounds.tokens))
        columns = queue.columns()
        levels = choose_levels(columns, now, bounds.tokens, self._ladders, engine)
        self.level = int(levels[0])
        layers = self._ladders.depth(columns.ladders, levels)
        return form(zip(queue.requests, map(int, layers), strict=True), bounds, self._cost, now)

    async def _finish(
        self, tickets: list[Ticket], batch: Batch, load: Load, predicted: float, running: Awaitable[BatchResult]
    ) -> None:
        sent = self._clock()
        for ticket in tickets:
            ticket.request.queue_s = max(ticket.request.queue_s, sent - ticket.request.arrived)
        try:
            result = await running
        except Exception as error:  # whatever it is, the callers must hear of it
            self._try_again(tickets, error)
            return
        now = self._clock()
        took = now - sent
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
        self._metrics.request_queued(request.queue_s)
        terms = request.terms
        self._metrics.tier_answered(
            terms.tier,
            layers=max(request.ran),
            quality=terms.quality[terms.exits.index(request.layers)],
            slack_s=request.deadline - now if terms.deadline_s else None,
            predicted_s=request.predicted_s,
            real_s=now - request.arrived,
        )

    def _expire(self, request: Admitted) -> None:
        """The deadline passed. What waits is not run; what is with the engine comes late, and says so."""
        if self._queue.remove(request):
            self._metrics.tier_expired(request.terms.tier)
            request.fail(DeadlinePassed(f"the deadline of {1000 * (request.terms.deadline_s or 0):.0f} ms has passed"))

    def _try_again(self, tickets: list[Ticket], error: Exception) -> None:
        """Run the texts of a failed batch once more, request by request, so that only the one at fault fails."""
        for ticket in tickets:
            ticket.attempts += 1
            ticket.request.suspect = True
            if ticket.attempts == _ATTEMPTS:
                self._queue.remove(ticket.request)
                ticket.request.fail(EngineFailure(str(error) or repr(error)))
        self._queue.put_back(ticket for ticket in reversed(tickets) if not ticket.request.over)
        self._wake()
