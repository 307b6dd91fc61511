"""The one owner of the schedule: lets requests in, picks what runs next and how deep, runs it, answers each once."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter

from strata.app.engine.batch import Batch, BatchResult, TokenIds
from strata.app.engine.link import EngineError
from strata.app.engine.pool import PATIENCE_S
from strata.app.planning.cost import CostModel, Load
from strata.app.planning.plan import Plan, Terms
from strata.app.scheduling.batching import Choice
from strata.app.scheduling.decisions import Decisions
from strata.app.scheduling.errors import DeadlinePassed, EngineFailure, NotServing, Overloaded, TooBusy
from strata.app.scheduling.learnt import Learnt
from strata.app.scheduling.limits import Limits
from strata.app.scheduling.policy import Policy
from strata.app.scheduling.result import Answer
from strata.app.scheduling.rounds import Rounds
from strata.app.scheduling.running import Running
from strata.app.scheduling.shadow import ShadowRuns
from strata.app.scheduling.ticket import Admitted, Ticket
from strata.app.scheduling.workers import Workers
from strata.app.telemetry.metrics import Metrics

_FIT_AT, _FIT_BY = 16, 64  # batches until the costs are fitted anew: when nothing waits, and whatever waits
_FIT_S = 0.25  # and seconds, when nothing waits


class Scheduler:
    """Admits whole requests, forms batches, hands them to idle workers, answers each request exactly once.

    ``layers``: of the model. ``clock``: seconds, of the same clock as the ``arrived`` given to ``submit``.
    """

    def __init__(
        self,
        pool: Workers,
        limits: Limits,
        metrics: Metrics,
        cost: CostModel,
        layers: int,
        *,
        policy: Policy | None = None,
        clock: Callable[[], float] = perf_counter,
        shadow_share: float = 0.0,
    ) -> None:
        self._pool = pool
        self._metrics = metrics
        self._clock = clock
        self._policy = policy or Policy()
        self._learnt = Learnt(cost)
        self._running: set[Running] = set()
        self._decisions = Decisions(pool, limits, self._policy, self._learnt, self._running, layers, clock)
        self._queue = self._decisions.queue
        self._shadow = ShadowRuns(shadow_share, layers, metrics)
        self._turn_began: float | None = None
        self._fitted = -math.inf  # when the costs were
        self._rounds = Rounds(clock, self._schedule)
        self._idle_since: deque[float] = deque()  # of workers that ended a batch while something waited
        pool.on_idle = self._worker_free

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

    @property
    def batch_tokens(self) -> int:
        """Most tokens of a batch."""
        return self._decisions.batch_tokens

    @property
    def depth(self) -> int:
        """Layers that the deepest of what waits is now aimed at."""
        return self._decisions.depth

    def set_shares(self, shares: Mapping[str, float]) -> None:
        """The tiers' shares of the engine, relative to one another."""
        self._learnt.shares = dict(shares)

    def alone(self, lengths: Sequence[int], layers: int) -> float:
        """Seconds until texts of these token lengths are answered at a depth with nothing else to do; 0: not known."""
        return self._decisions.alone(lengths, layers)

    def queued(self, lengths: Sequence[int], layers: int) -> float:
        """The same behind what waits now."""
        return self._decisions.behind(Terms((layers,), 0, (None,)), lengths)

    def plan(self, terms: Terms, lengths: Sequence[int], caller: str = "") -> Plan:
        """What a request on these terms would get if it came now."""
        return self._decisions.plan(terms, lengths, (terms.tier, caller))

    def check_room(self, texts: int, tokens: int, flow: tuple[str, str] = ("default", "")) -> None:
        """Raise Overloaded when the queue cannot take this much more, NotServing while no worker lives."""
        self._pool.look()  # between any two requests, so that a flood of them does not starve the engine
        self._time_turn()
        if self._pool.status == "dead":
            raise NotServing("the engine is dead")
        if not self._pool.size:
            raise NotServing("the engine's workers died and are being replaced")
        if reason := self._decisions.no_room(texts, tokens, flow):
            raise Overloaded(reason, self._decisions.seconds_to_clear())

    async def submit(
        self,
        texts: Sequence[TokenIds],
        terms: Terms,
        *,
        normalize: bool,
        arrived: float | None = None,
        caller: str = "",
    ) -> Answer:
        """Queue a request and await its answer.

        Raises Overloaded, TooBusy or NotServing at once, DeadlinePassed or EngineFailure later. ``arrived``: when the
        request came in (default: now); its deadline counts from there. ``caller``: who shares the tier with others.
        Cancelling withdraws what has not been run.
        """
        request = self._admit(texts, terms, normalize, arrived, (terms.tier, caller))
        self._queue.add(request)
        if self._pool.idle:
            if self._rounds.late or self._decisions.full_batch:
                self._schedule()
            else:
                self._rounds.begin()
        expiry = None
        if terms.deadline_s:
            expiry = asyncio.get_running_loop().call_later(request.deadline - self._clock(), self._expire, request)
        try:
            return await request.answer
        except asyncio.CancelledError:
            request.answer.cancel()
            self._withdraw(request)
            raise
        finally:
            if expiry:
                expiry.cancel()

    def _admit(
        self,
        texts: Sequence[TokenIds],
        terms: Terms,
        normalize: bool,
        arrived: float | None,
        flow: tuple[str, str],
    ) -> Admitted:
        now = self._clock()
        arrived = now if arrived is None else arrived
        lengths = [len(ids) for ids in texts]
        self.check_room(len(texts), sum(lengths), flow)
        behind = bool(self._queue) or not self._pool.idle
        entry = self._decisions.admit(terms, lengths, arrived, flow)
        if entry.late_s:
            self._metrics.tier_refused(terms.tier, "deadline")
            raise TooBusy.at(terms.exits[0], entry.late_s, entry.alone_s)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        request = Admitted(
            answer,
            terms,
            flow,
            normalize,
            arrived,
            entry.due,
            arrived + terms.deadline_s if terms.deadline_s else math.inf,
            now
            - arrived
            + entry.predicted_s * self._learnt.correction(terms.tier, behind, len(texts), terms.deadline_s),
            entry.within,
            terms.shares,
            now,
            entry.predicted_s,
            behind,
        )
        request.own_s = entry.own_s
        request.fill(texts)
        return request

    def _time_turn(self) -> None:
        """Take the time of the loop's turn, unless it is being taken already: all who come in it wait for its end."""
        if self._turn_began is None:
            self._turn_began = self._clock()
            asyncio.get_running_loop().call_soon(self._turn_over)

    def _turn_over(self) -> None:
        if self._turn_began is not None:
            now = self._clock()
            self._learnt.loop_turned(now - self._turn_began, now)
            self._turn_began = None

    def _worker_free(self) -> None:
        """A worker is free: what waits already has waited long enough."""
        if self._pool.status == "dead":
            for request in self._queue.drain():
                self._fail(request, "the engine is dead")
        elif self._queue:
            self._schedule()
        self._do_when_idle()

    def _schedule(self) -> None:
        """Give every idle worker the next batch."""
        while self._pool.idle and self._anything_waits():
            began = perf_counter()
            choice = self._decisions.next_batch()
            self._run(choice)
            self._metrics.decided(perf_counter() - began)
        if not self._queue:
            self._idle_since.clear()
        if self._learnt.cost.unfitted >= _FIT_BY:
            self._fit()

    def _do_when_idle(self) -> None:
        """What can wait until nobody does."""
        if self._queue:
            return
        if self._learnt.cost.unfitted >= _FIT_AT and self._clock() - self._fitted >= _FIT_S:
            self._fit()
        if self._shadow and self._pool.idle == self._pool.size > 0:
            self._run_shadow()

    def _fit(self) -> None:
        self._learnt.cost.fit()
        self._fitted = self._clock()

    def _anything_waits(self) -> bool:
        """Whether there is anything to run, once what cannot be in time any more is given up.

        Running that would make others late for an answer that nobody waits for.
        """
        while self._queue and self._decisions.hopeless():
            first = self._queue.requests[0]
            allowed, waited = (1000 * (at - first.arrived) for at in (first.deadline, self._clock()))
            told = f"no answer is possible by the deadline of {allowed:.0f} ms: given up after {waited:.0f} ms"
            self._give_up(first, told)
        return bool(self._queue)

    def _run(self, choice: Choice) -> None:
        """Hand a batch to an idle worker."""
        now = self._clock()
        tickets = self._queue.take(choice.parts)
        if self._idle_since:
            self._learnt.was_idle(now - self._idle_since.popleft(), now)
        for ticket in tickets:
            ticket.running += 1
        for request, _, _ in choice.parts:
            request.sent(now)
        parts = [(request, count) for request, count, _ in choice.parts]
        running = self._running_with(tickets, parts, Batch([ticket.row() for ticket in tickets]), choice.load)
        predicted = running.predicted_s
        self._start(running, partial(self._finish, running))
        if predicted:
            wait = max(self._policy.overdue_s, self._policy.overdue * predicted)
            running.overdue = asyncio.get_running_loop().call_later(wait, self._run_elsewhere, running)

    def _running_with(
        self, tickets: list[Ticket], parts: list[tuple[Admitted, int]], batch: Batch, load: Load
    ) -> Running:
        alone = not self._running and self._pool.size > 1
        costs = self._learnt.cost.costs
        predicted = costs.seconds(load) * (costs.alone if alone else 1.0)
        return Running(tickets, parts, batch, load, predicted, self._clock(), alone)

    def _start(self, running: Running, done: Callable[[BatchResult | EngineError], None]) -> None:
        predicted = running.predicted_s
        patience_s = max(self._policy.hangs_s, self._policy.hangs * predicted) if predicted else PATIENCE_S
        self._running.add(running)
        self._pool.start_batch(running.batch, patience_s, done)

    def _run_elsewhere(self, running: Running) -> None:
        """A batch is overdue: let another worker run it, too. Whichever is first answers."""
        if self._pool.size < 2:
            return
        again = [t for t in running.tickets if t.wanted and not t.waiting]
        self._queue.put_back(reversed(again))
        if again:
            self._rounds.begin()

    def _finish(self, running: Running, result: BatchResult | EngineError) -> None:
        """Learn from what a batch took, keep its worker busy, and answer what it completes."""
        now = self._clock()
        running.end()
        self._running.discard(running)
        for request, _ in running.parts:
            request.returned(now)
        if isinstance(result, EngineError):
            self._try_again(running.tickets, result)
            return
        for ticket in running.tickets:
            ticket.running -= 1
            if ticket.waiting:  # it was put back as overdue
                self._queue.withdraw(ticket)
        self._learn(running, result, now - running.sent)
        if self._queue:
            self._idle_since.append(now)
            self._schedule()  # first of all: the engine waits for it, and hundreds of callers may be to be answered
        begin = 0
        for request, count in running.parts:
            own = slice(begin, begin + count)
            begin += count
            self._shadow.offer(running.batch.rows[own], result.vectors[own], result.layers[own])
            if request.settle(running.tickets[own], result.vectors[own], result.layers[own], now):
                self._answered(request, now)

    def _learn(self, running: Running, result: BatchResult, took: float) -> None:
        batch, load, predicted = running.batch, running.load, running.predicted_s
        self._metrics.batch_done(len(batch.rows), load.tokens, result.padded_tokens, result.seconds, result.layers)
        if any(row.threshold is not None for row in batch.rows):  # how deep they would go, nobody knew
            load = Load.of((len(row.tokens), ran) for row, ran in zip(batch.rows, result.layers, strict=True))
            costs = self._learnt.cost.costs
            predicted = costs.seconds(load) * (costs.alone if running.alone else 1.0)
        self._metrics.batch_predicted(predicted, took)
        self._learnt.cost.observe(load, took, alone=running.alone)

    def _answered(self, request: Admitted, now: float) -> None:
        terms = request.terms
        took = now - request.admitted
        alike = terms.tier, request.behind, len(request.ran), terms.deadline_s
        self._learnt.answered(*alike, request.foreseen_s, took)
        # Of texts that left each by itself nothing was measured.
        worth = terms.quality[terms.exits.index(request.layers)] if terms.threshold is None else None
        self._metrics.tier_answered(
            terms.tier,
            layers=max(request.ran),
            quality=(worth.task, worth.share) if worth else None,
            waited_s=request.waited_s,
            slack_s=request.deadline - now if terms.deadline_s else None,
            predicted_s=request.predicted_s,
            real_s=now - request.arrived,
        )

    def _run_shadow(self) -> None:
        row, vector, layers = self._shadow.next()
        load = Load.of([(len(row.tokens), row.layers)])
        running = self._running_with([], [], Batch([row]), load)

        def compare(result: BatchResult | EngineError) -> None:
            self._running.discard(running)
            if not isinstance(result, EngineError):  # nobody waits for it
                self._shadow.compare(result, vector, layers)

        self._start(running, compare)

    def _expire(self, request: Admitted) -> None:
        """The deadline passed: the caller hears of it now, whatever holds the request."""
        self._give_up(request, f"the deadline of {1000 * (request.terms.deadline_s or 0):.0f} ms has passed")

    def _withdraw(self, request: Admitted) -> None:
        """Take a request out; what of it was not run is not held against its caller."""
        if self._queue.remove(request) and request.terms.deadline_s:
            self._learnt.given_back(request.flow, request.terms.deadline_s, request.own_left_s)

    def _give_up(self, request: Admitted, why: str) -> None:
        self._withdraw(request)
        if not request.over:
            self._metrics.tier_expired(request.terms.tier)
            self._learnt.missed(request.terms.tier, request.within, self._clock())
            request.fail(DeadlinePassed(why))

    def _fail(self, request: Admitted, reason: str) -> None:
        if not request.over:
            self._metrics.tier_failed(request.terms.tier)
            request.fail(EngineFailure(reason))

    def _try_again(self, tickets: list[Ticket], error: Exception) -> None:
        """Run the texts of a failed batch once more, request by request, so that only the one at fault fails."""
        for ticket in tickets:
            ticket.running -= 1
        lost = [t for t in tickets if t.wanted and not t.waiting and not t.running]
        for ticket in lost:
            ticket.attempts += 1
            ticket.request.suspect = True
            if ticket.attempts == self._policy.attempts:
                self._queue.remove(ticket.request)
                self._fail(ticket.request, str(error) or repr(error))
        self._queue.put_back(ticket for ticket in reversed(lost) if not ticket.request.over)
        if self._pool.status == "dead":  # given up while others had batches in hand
            self._worker_free()
        else:
            self._rounds.begin()
