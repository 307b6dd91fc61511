"""The outlook: how long what waits will take, how deep it can go, and so what runs next."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from strata.app.engine.pool import EnginePool
from strata.app.planning.cost import BatchBounds, CostModel, Load
from strata.app.planning.plan import Plan, Terms
from strata.app.scheduling.admission import lateness
from strata.app.scheduling.batching import Choice, form
from strata.app.scheduling.depths import Engine, at_level, choose_levels
from strata.app.scheduling.ladder import Ladders
from strata.app.scheduling.limits import Limits
from strata.app.scheduling.queue import Columns, DeadlineQueue

# On a CPU a batch of a few hundred tokens is as fast as a large one and keeps the next decision near; a GPU wants bulk.
_BATCH_TOKENS = {"cpu": 512, "cuda": 16_384}
_LEAST_SHARE = 192  # tokens below which splitting work among idle workers costs more than it saves
_PATIENCE_S = 10.0  # where a request without a deadline stands in the queue, or later: behind all that is due before
_BATCH_SHARE = 0.25  # of the shortest deadline lately seen that a batch may take: whoever has it may come any time
_SHORTEST_FORGET_S = 60.0
_USUAL = 0.01  # weight of the newest request in the average length of a text
_GAP = 0.05  # weight of the newest gap between two batches of a worker,
_GAP_MOST_S = 0.05  # of which no more than this is taken for the usual way of things,
_GAP_FORGET_S = 10.0  # and nothing any more after a while without one
_HOPELESS = 0.75  # of the predicted time: what has less left cannot be in time any more


class Outlook:
    """Sees the queue and the engine, and changes neither. Times in seconds of ``clock``."""

    def __init__(
        self, pool: EnginePool, limits: Limits, cost: CostModel, layers: int, clock: Callable[[], float]
    ) -> None:
        self._pool = pool
        self._limits = limits
        self._cost = cost
        self._clock = clock
        self._ladders = Ladders(layers)
        self.queue = DeadlineQueue(self._ladders)
        self.running: dict[object, float] = {}  # batches, and until when each is predicted to run
        self.level = layers  # that the head of the queue was last run at
        self._shortest: tuple[float, float] = (math.inf, 0.0)  # deadline, and when it was seen
        self._text_tokens = 32.0  # of an average text, lately
        self._gap: tuple[float, float] = (0.0, 0.0)  # of a worker between two batches, of late; and when one was seen

    @property
    def batch_tokens(self) -> int:
        """Most tokens of a batch."""
        device = self._pool.choice.device if self._pool.choice else "cpu"
        return self._limits.max_batch_tokens or _BATCH_TOKENS[device]

    def engine(self) -> Engine:
        """The engine as decisions see it now."""
        now = self._clock()
        running = sum(max(0.0, until - now) for until in self.running.values())
        shortest, seen = self._shortest
        seconds = math.inf
        if now - seen < _SHORTEST_FORGET_S:
            # No less than one text takes: a caller in a hurry must not make everybody's batches run one by one.
            layers, tokens = self._ladders.layers, round(self._text_tokens)
            text = Load(layers, tokens, tokens * layers)
            seconds = max(_BATCH_SHARE * shortest, self._cost.seconds(text))
        most, gap = self._limits.max_batch_requests, self._usual_gap(now)
        bounds = BatchBounds(self.batch_tokens, seconds, most, self._text_tokens, gap)
        return Engine(self._cost, max(1, self._pool.size), bounds, running)

    def let_in(self, texts: int, tokens: int, deadline_s: float | None) -> None:
        """A request of this size was let in: what usually comes, and how soon a worker may be wanted."""
        self._text_tokens += _USUAL * (tokens / texts - self._text_tokens)
        if deadline_s is not None:
            now = self._clock()
            shortest, seen = self._shortest
            if deadline_s <= shortest or now - seen >= _SHORTEST_FORGET_S:
                self._shortest = (deadline_s, now)

    def was_idle(self, seconds: float) -> None:
        """A worker was idle for so long although something waited: this process was busy with something else."""
        now = self._clock()
        gap = self._usual_gap(now)
        self._gap = (gap + _GAP * (min(seconds, _GAP_MOST_S) - gap), now)

    def _usual_gap(self, now: float) -> float:
        gap, seen = self._gap
        return gap if now - seen < _GAP_FORGET_S else 0.0

    def due(self, arrived: float, deadline: float, turn: float = 0.0) -> float:
        """The place in the queue of a request, as a time; ``turn`` (`Shares.turn`) of one without a deadline."""
        return min(deadline, max(arrived + _PATIENCE_S, turn))

    def lateness(self, work: float, slack: float, due: float, bound: float) -> float:
        """`admission.lateness` of a newcomer with ``work`` worker-seconds, as the queue is now."""
        queue, now = self.queue, self._clock()
        return lateness(queue.columns(), queue.place(due), work, slack, bound, self._ladders, self.engine(), now)

    def expected(self, terms: Terms, tokens: int) -> float:
        """Seconds to the answer of a newcomer, behind all that waits at the present level: quick, and near enough."""
        engine, queue = self.engine(), self.queue
        level = self.level if queue else self._ladders.layers
        before = engine.work(queue.tokens, max(level, queue.floor)) if queue.tokens else 0.0
        depth = max((e for e in terms.exits if e <= level), default=terms.exits[0])
        return engine.finish_one(before, engine.work(tokens, depth))

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
        return self.expected(Terms((layers,), 0, (None,)), sum(lengths))

    def plan(self, terms: Terms, lengths: Sequence[int]) -> Plan:
        """What a request on these terms would get if it came now."""
        now, engine = self._clock(), self.engine()
        deadline = now + terms.deadline_s if terms.deadline_s else math.inf
        at = self.queue.place(self.due(now, deadline))
        columns = self._with(terms, sum(lengths), now, deadline, at)
        levels = choose_levels(columns, now, math.inf, self._ladders, engine)
        layers = int(self._ladders.depth(columns.ladders[at : at + 1], levels[at])[0])
        predicted = float(engine.finish(at_level(columns, levels, self._ladders, engine))[at])
        return Plan(layers, terms.dim, terms.quality[terms.exits.index(layers)], predicted)

    def hopeless(self) -> bool:
        """Whether the head of the queue cannot be in time any more, even at its floor."""
        first = self.queue.requests[0]
        tokens, layers = first.waiting_tokens, first.exits[0]
        # As one batch, or as part of full ones: a worker is idle, and whatever else would share it need not come.
        least = min(self._cost.seconds(Load(layers, tokens, tokens * layers)), self.engine().work(tokens, layers))
        return first.deadline - self._clock() < _HOPELESS * least / max(1, self._pool.size)

    def next_batch(self) -> Choice:
        """The next batch and its depths."""
        now, queue, engine = self._clock(), self.queue, self.engine()
        # Idle workers share what waits, so that one large request uses them all.
        share = max(math.ceil(queue.tokens / self._pool.idle), _LEAST_SHARE)
        bounds = replace(engine.bounds, tokens=min(share, engine.bounds.tokens))
        columns = queue.columns()
        levels = choose_levels(columns, now, bounds.tokens, self._ladders, engine)
        self.level = int(levels[0])
        layers = self._ladders.depth(columns.ladders, levels)
        return form(zip(queue.requests, map(int, layers), strict=True), bounds, self._cost, now)

    def seconds_to_clear(self) -> float:
        """Until all that waits is answered, at the present level."""
        engine, columns = self.engine(), self.queue.columns()
        work = at_level(columns, self.level, self._ladders, engine)
        return (float(work.sum()) + engine.running_s) / engine.workers if self._cost.known else 1.0

    def _with(self, terms: Terms, tokens: int, now: float, deadline: float, at: int) -> Columns:
        """The queue's columns with a request that is not in it."""
        goal, limit = self.queue.goal(now, deadline, terms.exits), self.queue.limit(now, deadline)
        return self.queue.columns().inserted(at, deadline, limit, goal, tokens, self._ladders.number(terms.exits))
