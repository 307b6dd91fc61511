"""Decisions on what waits: they read the queue, what is learnt and the workers, and hand them to pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from strata.app.counted import counted
from strata.app.planning.cost import BatchBounds
from strata.app.planning.plan import Plan, Terms
from strata.app.scheduling import forecast
from strata.app.scheduling.admission import Newcomer, judge, late_within
from strata.app.scheduling.backlog import Backlogs
from strata.app.scheduling.batching import Choice, form
from strata.app.scheduling.curves import LEVELS, Curves
from strata.app.scheduling.depths import choose
from strata.app.scheduling.foreseen import coming
from strata.app.scheduling.last_refused import LastRefused
from strata.app.scheduling.learnt import Flow, Learnt
from strata.app.scheduling.limits import Limits
from strata.app.scheduling.pace import dated
from strata.app.scheduling.policy import Policy
from strata.app.scheduling.queue import DeadlineQueue
from strata.app.scheduling.running import Running
from strata.app.scheduling.snapshot import Expected, Snapshot
from strata.app.scheduling.steady import Steady
from strata.app.scheduling.take_snapshot import Arriving, batch_bounds, take_snapshot
from strata.app.scheduling.ticket import Admitted
from strata.app.scheduling.workers import Workers

_TOP = LEVELS - 1


@dataclass(slots=True)
class Entry:
    """What a request is told when it comes."""

    late_s: float  # 0: it is let in
    within: bool
    due: float  # inf: the queue says when
    predicted_s: float  # from now to the answer
    own_s: float = 0.0  # that it takes a server of its flow's own, where it is within its share
    alone_s: float = 0.0  # of one that is refused with nothing else to do: what it would take


class Decisions:
    """Times in seconds of ``clock``. Writes to what is learnt only what came."""

    def __init__(
        self,
        pool: Workers,
        limits: Limits,
        policy: Policy,
        learnt: Learnt,
        running: Collection[Running],
        layers: int,
        clock: Callable[[], float],
    ) -> None:
        self._pool = pool
        self._limits = limits
        self._policy = policy
        self._learnt = learnt
        self._running = running
        self._clock = clock
        self._layers = layers
        self._curves = Curves(layers)
        self.queue = DeadlineQueue(self._curves, self._date)
        self._level = _TOP  # of price, that the head of the queue was last run at
        self.depth = layers
        self._arriving: Arriving | None = None
        self._bounds = BatchBounds(0)  # of a batch, when a decision was last made
        self._backlogs = Backlogs()
        self._steady = Steady()
        self._refused = LastRefused()

    @property
    def batch_tokens(self) -> int:
        """Most tokens of a batch."""
        device = self._pool.choice.device if self._pool.choice else "cpu"
        return self._limits.max_batch_tokens or self._policy.batch_tokens[device.partition(":")[0]]

    @property
    def full_batch(self) -> bool:
        """Whether what waits fills a batch: nothing is gained by waiting for more."""
        most = self._limits.max_batch_requests
        return self.queue.tokens >= self.batch_tokens or (most is not None and self.queue.texts >= most)

    def snapshot(self) -> Snapshot:
        """Now, as decisions see it."""
        if self._curves.full():  # clients may invent sets of exits, also in requests that are refused
            self.queue.forget_curves()
        snapshot, self._arriving = take_snapshot(
            self._learnt,
            self._curves,
            self._policy,
            self._arriving,
            workers=self._pool.size,
            idle=self._pool.idle,
            batch_tokens=self.batch_tokens,
            batch_texts=self._limits.max_batch_requests,
            running=[batch.until for batch in self._running],
            waiting=(self.queue.flows, self.queue.flow_tokens),
            backlogs=self._backlogs,
            now=self._clock(),
        )
        self._bounds = snapshot.capacity.bounds
        self._backlogs.carry(self._arriving.carried)
        snapshot.steady = self._steady.part(snapshot.now)
        return snapshot

    def no_room(self, texts: int, tokens: int, flow: Flow) -> str | None:
        """Why the queue cannot take this much more, or None.

        Among several callers none fills the queue: each may hold so many times the room that is left (dynamic
        thresholds: Choudhury and Hahne 1998).
        """
        queue, limits = self.queue, self._limits
        left, tokens_left = limits.max_queue_texts - queue.texts, limits.max_queue_tokens - queue.tokens
        others = any(known != flow for known in self._learnt.flows)  # who is not here now may come next
        held, tokens_held = queue.flows[flow], queue.flow_tokens[flow]
        most = self._policy.room_share
        if texts > left or tokens > tokens_left:
            whose = f"the queue holds {counted(queue.texts, 'text')}"
        elif (
            held
            and others
            and (held + texts > most * (left - texts) or tokens_held + tokens > most * (tokens_left - tokens))
        ):
            whose = f"this caller holds {held} of the {counted(queue.texts, 'text')} in the queue"
        else:
            return None
        return (
            f"{whose} ({queue.tokens} tokens) of at most {limits.max_queue_texts} ({limits.max_queue_tokens}); "
            f"there is no room for {texts} more"
        )

    def admit(self, terms: Terms, lengths: Sequence[int], arrived: float, flow: Flow) -> Entry:
        """Judge a newcomer, and take note that it came."""
        now, tokens, texts = self._clock(), sum(lengths), len(lengths)
        if terms.deadline_s is None:
            return self._unhurried(terms, lengths, flow)
        due = arrived + terms.deadline_s
        asked, moment = (flow, terms.exits[0], texts), (self.queue.departures, self._pool.size, self._pool.idle)
        if late_s := self._refused.late_s(asked, tokens, due - now, now, moment):
            self._came(terms, texts, tokens, flow, now)
            return Entry(late_s, False, due, 0.0)
        known = self._learnt.flows.get(flow)
        own_rates, age_s = (known.risen.read(now), known.risen.age(now)) if known else ((0.0, 0.0), 0.0)
        snapshot = self._arrived(terms, tokens, texts, flow, now)
        work = snapshot.capacity.costs.row(tokens, texts, terms.exits[0], snapshot.capacity.bounds)
        share = self._share(flow, snapshot.expected)
        ahead_s, spare_s = self._learnt.before(flow, terms.deadline_s, now)
        waiting = None
        if not self.queue and self._pool.idle == self._pool.size:
            alone_s, costs = self.alone(lengths, terms.exits[0]), snapshot.capacity.costs
            if (late_s := (1 + costs.spread) * alone_s + snapshot.capacity.lag_s - (due - now)) > 0:
                return Entry(late_s, True, due, 0.0, alone_s=alone_s)
        elif not self._time_to_spare(snapshot, texts, tokens, due):
            waiting = self.queue.columns(snapshot.kept)
        margin = self._learnt.margin(terms.tier, now)
        newcomer = Newcomer(terms.tier, work, due - now, due - now, share, ahead_s, spare_s, own_rates, age_s, margin)
        verdict = judge(newcomer, waiting, snapshot, self._curves)
        if verdict.late_s:
            self._steady.refused(now)
            late_s = verdict.late_s if verdict.within else min(verdict.late_s, verdict.beyond_s)
            self._refused.refused(asked, tokens, due - now, late_s, now)
            return Entry(verdict.late_s, verdict.within, due, 0.0)
        own_s = verdict.own_s if verdict.within else 0.0
        if own_s:
            self._learnt.promised(flow, terms.deadline_s, own_s, now)
        expected_s = self._expected(snapshot, terms, lengths, self.queue.due_by(due), due - now)
        return Entry(0.0, verdict.within, due, expected_s, own_s=own_s)

    def _unhurried(self, terms: Terms, lengths: Sequence[int], flow: Flow) -> Entry:
        """Let in a newcomer without a deadline."""
        snapshot = self._arrived(terms, sum(lengths), len(lengths), flow, self._clock())
        return Entry(0.0, True, math.inf, self._expected_unhurried(snapshot, terms, lengths, flow))

    def _expected_unhurried(self, snapshot: Snapshot, terms: Terms, lengths: Sequence[int], flow: Flow) -> float:
        """Seconds to the answer of a newcomer without a deadline."""
        tokens, texts, capacity = sum(lengths), len(lengths), snapshot.capacity
        ahead = self.queue.flow_tokens[flow]
        # Flows of work without a deadline take turns: what waits of another is before this one as far as it is no more.
        others = sum(min(held, ahead + tokens) for name, held in self.queue.flow_tokens.items() if name != flow)
        before = (ahead + others) / capacity.bounds.text_tokens, ahead + others
        seconds = self._expected(snapshot, terms, lengths, before, math.inf)
        if not self.queue and self._pool.idle:
            return seconds
        # At the latest when it is due, at the pace of its flow's share.
        work = capacity.costs.row(tokens, texts, terms.exits[-1], capacity.bounds)
        own_s = work / (min(self._unhurried_part(flow), self._policy.unhurried_share) * capacity.workers)
        latest_s = max(self._policy.patience_s, own_s * ahead / tokens) + own_s
        return max(seconds, min(self._behind_those_to_come(seconds, snapshot), latest_s))

    def _date(self, request: Admitted, last: float | None) -> float:
        """`pace.dated`, now."""
        part, workers = self._unhurried_part(request.flow), max(1, self._pool.size)
        expected = self._arriving.expected if self._arriving else ()
        longest_s = max((kind.deadline_s for kind in expected if kind.deadline_s < math.inf), default=0.0)
        costs = self._learnt.cost.costs
        return dated(request, last, part, workers, longest_s, costs, self._bounds, self._policy, self._clock())

    def _unhurried_part(self, flow: Flow) -> float:
        """Of the engine, for a flow's work without a deadline: of its share what its tier's hurried work leaves."""
        expected = self._arriving.expected if self._arriving else ()
        kinds = [kind for kind in expected if kind.tier == flow[0]]
        hurried = sum(kind.rates[1] * kind.floor_work for kind in kinds if kind.deadline_s < math.inf)
        tier = kinds[0].share * max(1, self._pool.size) if kinds else 1.0
        part = self._share(flow, expected) * max(self._policy.unhurried_least, 1 - hurried / tier)
        return max(part, 1e-3)

    def _arrived(self, terms: Terms, tokens: int, texts: int, flow: Flow, now: float) -> Snapshot:
        """Take note of a newcomer; the moment before it came."""
        snapshot = self.snapshot()
        self._came(terms, texts, tokens, flow, now)
        if not self.queue and self._pool.idle:
            self._learnt.nobody_waits()
        return snapshot

    def _came(self, terms: Terms, texts: int, tokens: int, flow: Flow, now: float) -> None:
        if terms.deadline_s is not None:
            self._backlogs.came(terms.tier, max(texts, tokens / self._learnt.text_tokens), now)
        self._steady.found(self.queue.texts + sum(len(batch.tickets) for batch in self._running), now)
        self._learnt.came(flow, texts, tokens, terms.deadline_s, (terms.exits, terms.shares), now)

    def _share(self, flow: Flow, expected: Sequence[Expected]) -> float:
        """The part of the engine that is a flow's own: its tier's, by the callers that are active in it."""
        tier = next((kind.share for kind in expected if kind.tier == flow[0]), None)
        if tier is None:
            shares = self._learnt.shares
            own = shares.get(flow[0], 1.0)
            tier = own / (own + sum(shares.get(kind.tier, 1.0) for kind in expected))
        callers = {caller for name, caller in self.queue.flows if name == flow[0]} | {flow[1]}
        return tier / len(callers)

    def alone(self, lengths: Sequence[int], layers: int) -> float:
        """`forecast.alone`, now."""
        return forecast.alone(
            lengths,
            layers,
            self._learnt.cost.costs,
            max(1, self._pool.size),
            bounds=self._bounds_now() if len(lengths) > 1 else None,
            least_split_tokens=self._policy.least_split_tokens,
            busy=bool(self._running),
        )

    def _bounds_now(self) -> BatchBounds:
        texts = self._limits.max_batch_requests
        return batch_bounds(self._learnt, self._policy, self._layers, self.batch_tokens, texts, self._clock())

    def _deepest(self, terms: Terms, lengths: Sequence[int], slack_s: float, snapshot: Snapshot) -> int:
        """`forecast.deepest_in_time`, now; what takes all workers leaves time to those who are likely to come."""
        capacity = snapshot.capacity
        if len(lengths) > capacity.workers:
            slack_s *= max(1 - self._policy.headroom, 1 - snapshot.load)
        doubt = self._policy.alone_spreads * capacity.costs.spread
        return forecast.deepest_in_time(
            terms, slack_s, capacity.lag_s, doubt, lambda layers: self.alone(lengths, layers)
        )

    def behind(self, terms: Terms, lengths: Sequence[int]) -> float:
        """Seconds to the answer at these terms, behind all that waits."""
        return self._expected(self.snapshot(), terms, lengths, (self.queue.texts, self.queue.tokens), math.inf)

    def _expected(
        self,
        snapshot: Snapshot,
        terms: Terms,
        lengths: Sequence[int],
        before: tuple[float, float],
        slack_s: float,
    ) -> float:
        """Seconds to the answer of a newcomer, at the present price: quick, and near enough.

        ``before``: texts and tokens that go first.
        """
        capacity, queue = snapshot.capacity, self.queue
        if not queue and self._pool.idle:
            layers = self._deepest(terms, lengths, slack_s, snapshot)
            return self.alone(lengths, layers) + capacity.lag_s
        row = self._curves.row(terms.exits, terms.shares)
        layers = int(row[self._level if queue else _TOP])
        texts, tokens = before
        work = capacity.costs.row(tokens, max(1.0, texts), self.depth, capacity.bounds)
        own = max(capacity.costs.row(sum(lengths), len(lengths), layers, capacity.bounds), 0.0)
        if not texts:
            return capacity.running_s / capacity.workers + self.alone(lengths, layers) + capacity.lag_s
        return capacity.finish_one(work, own)

    def _behind_those_to_come(self, seconds: float, snapshot: Snapshot) -> float:
        """Of what takes ``seconds`` if nobody came: when those with a deadline go first who come before it is done.

        As deep as they may: what would be left for others by less depth they take.
        """
        taken, long_s = 0.0, self._policy.patience_s
        for kind in snapshot.expected:
            if kind.deadline_s < long_s:
                taken += coming(kind.rates, 0.0, long_s) / long_s * kind.top_work / snapshot.capacity.workers
        return seconds / (1 - taken) if taken < 1 else math.inf

    def plan(self, terms: Terms, lengths: Sequence[int], flow: Flow) -> Plan:
        """What a request on these terms would get if it came now."""
        snapshot, now = self.snapshot(), self._clock()
        slack = terms.deadline_s or math.inf
        deadline, behind = now + slack, bool(self.queue) or not self._pool.idle
        if not self.queue and self._pool.idle:
            layers = self._deepest(terms, lengths, slack, snapshot)
        else:
            due = min(deadline, now + self._policy.patience_s)
            curve = self._curves.number(terms.exits, terms.shares)
            at = self.queue.place(due)
            columns = self.queue.columns(snapshot.kept).inserted(
                at, due, deadline, sum(lengths), len(lengths), terms.exits[0], curve, snapshot.kept.get(terms.tier, 0.0)
            )
            found = choose(columns, snapshot, self._curves, math.inf).layers
            layers = int(found[at])
        if terms.deadline_s is None:
            seconds = self._expected_unhurried(snapshot, terms, lengths, flow)
        else:
            seconds = self._expected(snapshot, terms, lengths, self.queue.due_by(deadline), slack)
        seconds *= self._learnt.correction(terms.tier, behind, len(lengths), terms.deadline_s)
        return Plan(layers, terms.dim, terms.quality[terms.exits.index(layers)], seconds)

    def hopeless(self) -> bool:
        """Whether the head of the queue cannot be in time any more, even at its floor."""
        first = self.queue.requests[0]
        # What runs already, and waits only because that is overdue, may still be done.
        if first.deadline == math.inf or any(ticket.running for ticket in first.waiting):
            return False
        least = self.alone([len(ticket.tokens) for ticket in first.waiting], first.exits[0])
        return first.deadline - self._clock() < self._policy.hopeless * least

    def next_batch(self) -> Choice:
        """The next batch and its depths."""
        queue, snapshot, policy = self.queue, self.snapshot(), self._policy
        # Idle workers share what waits, so that one large request uses them all.
        split = max(math.ceil(queue.tokens / self._pool.idle), policy.least_split_tokens)
        most = snapshot.capacity.bounds
        bounds = BatchBounds(
            min(split, self.batch_tokens), most.seconds, most.texts, most.text_tokens, most.gap_s, most.text_s
        )
        if len(queue.requests) <= self._pool.idle and snapshot.light:
            return self._undisturbed(snapshot, bounds)
        if self._time_to_spare(snapshot):
            self._level, self.depth = _TOP, queue.requests[0].exits[-1]
            return form(queue.in_turn(), bounds, snapshot.capacity.costs, snapshot.now, policy)
        columns = queue.columns(snapshot.kept)
        order = None
        if not columns.within.all() and late_within(columns, snapshot, self._curves):
            columns, order = columns.within_first()
        depths = choose(columns, snapshot, self._curves, bounds.tokens)
        self._level = depths.level
        self.depth = int(depths.layers[0])
        layers = depths.layers.tolist()
        if order is None:
            candidates = queue.in_turn(layers)
        else:
            candidates = zip([queue.requests[i] for i in order], layers, strict=True)
        return form(candidates, bounds, snapshot.capacity.costs, snapshot.now, policy)

    def _time_to_spare(self, snapshot: Snapshot, texts: int = 0, tokens: int = 0, due: float = math.inf) -> bool:
        """Whether all that waits, and this much more, is in time at full depth by far: nothing is to be decided."""
        if not snapshot.light:
            return False
        queue, capacity = self.queue, snapshot.capacity
        first = min(due, queue.requests[0].due) if queue else due
        work = capacity.costs.row(queue.tokens + tokens, queue.texts + texts, self._layers, capacity.bounds)
        left = self._policy.to_spare * (first - snapshot.now)
        return (1 + capacity.costs.spread) * capacity.finish_one(0.0, work) <= left

    def _undisturbed(self, snapshot: Snapshot, bounds: BatchBounds) -> Choice:
        """Each request has a worker of its own and nobody is likely to need it: nothing is to be decided."""
        first = self.queue.requests[0]
        if first.layers >= 0:
            layers = first.layers
        else:
            lengths = [len(ticket.tokens) for ticket in first.waiting]
            slack = first.deadline - snapshot.now
            layers = self._deepest(first.terms, lengths, slack, snapshot)
        self._level, self.depth = _TOP, layers
        return form([(first, layers)], bounds, snapshot.capacity.costs, snapshot.now, self._policy)

    def seconds_to_clear(self) -> float:
        """Until all that waits is answered, at the present depth."""
        capacity, queue = self.snapshot().capacity, self.queue
        work = capacity.costs.row(queue.tokens, max(1, queue.texts), self.depth, capacity.bounds)
        return (work + capacity.running_s) / capacity.workers if capacity.costs.known else 1.0
