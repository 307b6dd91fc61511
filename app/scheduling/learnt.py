"""What is learnt while serving: costs, gaps, usual sizes and deadlines, what comes. Only observations write to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import exp, inf, log, log2, sqrt

from strata.app.planning.cost import CostModel
from strata.app.scheduling.own_server import OwnServer

_USUAL = 0.01  # weight of the newest request in the average length of a text
_GAP = 0.05  # weight of the newest gap between two batches of a worker,
_GAP_MOST_S = 0.05  # of which no more than this is taken for the usual way of things,
_GAP_FORGET_S = 10.0  # and nothing any more after a while without one
FAST_S, _SLOW_S = 2.0, 15.0  # over which arrivals are averaged: what comes next, and what comes in the long run
_MOMENT_S = 0.1  # before its first request, in which a flow is taken to have sent nothing
_SIGMAS = 2.0  # of what came of a flow that is new, or of late, which are taken for chance
_QUICK_S = 0.25  # over which arrivals are averaged to see whether they have become more:
_RISE, _RISE_S = 2.0, 0.3  # times as many, for so long, are a flow that is new
_GONE = 1e-3  # texts a second under which a flow is forgotten
_MOST_FLOWS = 256
_MOST_KINDS = 4  # of requests, that are told apart in a flow,
_KIND = 0.98  # weight of the past in what part each has, at every request,
_KIND_GONE = 0.01  # and texts under which one is forgotten
_DEADLINES = 1.002  # each request's deadline weighs so much more than the one before it
_OCTAVE = 4  # steps to a doubling, in which deadlines are told apart
_MISS, _MISS_MOST, _MISS_S = 0.02, 0.4, 20.0  # what accepted requests that were not in time add to a margin,
_TOGETHER_S = 0.05  # those of so long once: they waited for the same
# A turn is one iteration of this process's event loop. What comes waits for its end until it is read, and an answer
# until it is sent.
_TURNS = 2.0
_LAG_S = 0.3  # over which turns are averaged

_ANSWER = 0.05  # weight of the newest answer in how far a tier's predictions are out,
_FIRST_ANSWERS = 3.0  # over how many, but
_ANSWER_MOST = 0.3  # of which no more than this counts: what most of them take is told, not the average

Flow = tuple[str, str]  # tier, and the caller in it
Curve = tuple[tuple[int, ...], tuple[float | None, ...]]  # exits, and what each is worth
# Of a tier: whether others were before them, the logarithms of their texts and of the deadline; None: no deadline.
Answers = tuple[str, bool, int, int | None]
KindKey = tuple[bool, int | None]  # whether pinned to one depth, and the deadline's logarithm; None: none


class Rate:
    """Something a second, over two spans of time."""

    __slots__ = ("_born", "_fast", "_of", "_slow", "_then")

    def __init__(self, now: float) -> None:
        self._born = self._then = now
        self._fast = self._slow = 0.0
        self._of = 1.0  # in what amounts it comes

    def add(self, amount: float, now: float) -> None:
        """So much came."""
        self._fast, self._slow = self.spans(now)
        if self._slow < _GONE:  # for the first time, or again after a long one
            self._born, self._of = now, amount
        self._then = now
        self._of += 0.1 * (amount - self._of)
        self._fast += amount / FAST_S
        self._slow += amount / _SLOW_S

    def spans(self, now: float) -> tuple[float, float]:
        """Of late, and on the whole; without correction for a short life."""
        gone = max(0.0, now - self._then)
        return self._fast * exp(-gone / FAST_S), self._slow * exp(-gone / _SLOW_S)

    def read(self, now: float) -> tuple[float, float]:
        """Of late, and on the whole."""
        fast, slow = self.spans(now)
        age = max(0.0, now - self._born)
        if 0 < age < FAST_S:
            # The average has not seen its span yet: the rate so far, less what may be chance.
            so_far = fast / (1 - exp(-age / FAST_S))
            fast = max(fast, so_far - _SIGMAS * sqrt(so_far * self._of / age))
        # What has been seen for a moment only is taken to have come by chance.
        return fast, min(fast, slow / (1 - exp(-(age + _MOMENT_S) / _SLOW_S))) if age < _SLOW_S else slow


class Risen(Rate):
    """The same, that is as one of a flow that is new from when more begins to come: a `Rate` knows of it seconds later.

    A burst may end as soon as it is seen, so this is for promises to those who will wait, and not for depth.
    """

    __slots__ = ("_quick", "_rising")

    def __init__(self, now: float) -> None:
        super().__init__(now)
        self._quick = 0.0  # of the last moment,
        self._rising = now  # and since when it is more than is known

    def age(self, now: float) -> float:
        """Seconds since it rose."""
        return now - self._born

    def add(self, amount: float, now: float) -> None:
        """So much came."""
        self._quick = self._quick * exp(-max(0.0, now - self._then) / _QUICK_S) + amount / _QUICK_S
        super().add(amount, now)
        surely = self._quick - _SIGMAS * sqrt(self._quick * self._of / (2 * _QUICK_S))
        if surely <= _RISE * self._fast or surely <= _RISE * self.read(now)[0]:
            self._rising = now
        elif (age := now - self._rising) >= _RISE_S:
            level = self._quick / (1 - exp(-age / _QUICK_S))
            self._born = self._rising
            self._fast, self._slow = level * (1 - exp(-age / FAST_S)), level * (1 - exp(-age / _SLOW_S))


@dataclass(slots=True)
class Kind:
    """Requests of a flow that load treats alike, documents beside queries, say: the newest stands for the others."""

    texts: float  # of late: its part of the flow's
    text_tokens: float
    deadline_s: float  # inf: none
    curve: Curve


@dataclass(slots=True)
class Arrivals:
    """What comes of one flow."""

    texts: Rate
    risen: Risen
    kinds: dict[KindKey, Kind] = field(default_factory=dict)

    def add(self, texts: int, length: float, deadline_s: float | None, curve: Curve, now: float) -> None:
        """A request came, of texts of this length on average."""
        self.texts.add(texts, now)
        self.risen.add(texts, now)
        for name, kind in list(self.kinds.items()):
            kind.texts *= _KIND
            if kind.texts < _KIND_GONE:
                del self.kinds[name]
        key = (len(curve[0]) == 1, None if deadline_s is None else _step(deadline_s))
        found = self.kinds.get(key)
        if found is None:
            if len(self.kinds) >= _MOST_KINDS:
                del self.kinds[min(self.kinds, key=lambda name: self.kinds[name].texts)]
            found = self.kinds[key] = Kind(0.0, length, inf, curve)
        found.texts += texts
        found.text_tokens += 0.05 * (length - found.text_tokens)
        found.deadline_s, found.curve = deadline_s or inf, curve


def _alike(tier: str, behind: bool, texts: int, deadline_s: float | None) -> Answers:
    return tier, behind, texts.bit_length(), None if deadline_s is None else _step(deadline_s)


@lru_cache(maxsize=256)
def _step(deadline_s: float) -> int:
    return round(_OCTAVE * log2(deadline_s))


@dataclass
class Learnt:
    """All of it, in one place. Times in the scheduler's clock."""

    cost: CostModel
    text_tokens: float = 32.0  # of an average text, lately
    flows: dict[Flow, Arrivals] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)  # of the tiers, relative to one another
    _servers: dict[Flow, OwnServer] = field(default_factory=dict)
    _gap: tuple[float, float] = (0.0, -inf)  # of a worker between two batches; and when one was seen
    _turn: float = 0.0  # of this process's loop, that somebody who comes now is likely to meet,
    _turned: float = 0.0  # and when one ended
    _margins: dict[str, tuple[float, float]] = field(default_factory=dict)  # by tier; "": of all; and when raised
    _deadlines: dict[int, float] = field(default_factory=dict)  # weight of deadlines by their logarithm
    _weight: float = 1.0
    _answers: dict[Answers, tuple[float, int]] = field(default_factory=dict)  # logarithm, and of how many

    def came(
        self,
        flow: Flow,
        texts: int,
        tokens: int,
        deadline_s: float | None,
        curve: Curve,
        now: float,
    ) -> None:
        """A request came: whether it was let in or not, more like it will."""
        length = tokens / texts
        self.text_tokens += _USUAL * (length - self.text_tokens)
        found = self.flows.get(flow)
        if found is None:
            if len(self.flows) >= _MOST_FLOWS:
                self._forget(now)
            found = self.flows[flow] = Arrivals(Rate(now), Risen(now))
        found.add(texts, length, deadline_s, curve, now)
        if deadline_s is not None:
            self._weight *= _DEADLINES
            step = _step(deadline_s)
            self._deadlines[step] = self._deadlines.get(step, 0.0) + self._weight
            if self._weight > 1e9:
                self._deadlines = {at: w / self._weight for at, w in self._deadlines.items() if w > 1e-4 * self._weight}
                self._weight = 1.0

    def before(self, flow: Flow, deadline_s: float, now: float) -> tuple[float, float]:
        """`OwnServer.before`, of a flow's."""
        server = self._servers.get(flow)
        return server.before(_step(deadline_s), now) if server else (0.0, inf)

    def promised(self, flow: Flow, deadline_s: float, seconds: float, now: float) -> None:
        """Work was let in that takes a server of the flow's own so many seconds."""
        server = self._servers.get(flow)
        if server is None:
            if len(self._servers) >= _MOST_FLOWS:
                self._servers = {name: other for name, other in self._servers.items() if not other.idle(now)}
            server = self._servers[flow] = OwnServer(now)
        server.promise(_step(deadline_s), seconds, now + deadline_s)

    def given_back(self, flow: Flow, deadline_s: float, seconds: float) -> None:
        """Of that so much will not be run: who asked for it left, or it was given up."""
        if server := self._servers.get(flow):
            server.give_back(_step(deadline_s), seconds)

    def nobody_waits(self) -> None:
        """The engine is idle: what was used when nobody else wanted it is not held against anyone."""
        self._servers.clear()

    def was_idle(self, seconds: float, now: float) -> None:
        """A worker was idle for so long although something waited: this process was busy with something else."""
        gap = self.gap(now)
        self._gap = (gap + _GAP * (min(seconds, _GAP_MOST_S) - gap), now)

    def loop_turned(self, seconds: float, now: float) -> None:
        """A turn of this process's loop took so long: as many more meet it as it is longer."""
        self._turn += (1 - exp(-seconds / _LAG_S)) * (seconds - self._turn)
        self._turned = now

    def missed(self, tier: str, within: bool, now: float) -> None:
        """A request that was let in was not answered in time: the forecasts were too hopeful.

        A tier's own margin grows by those within its share alone: what others send beyond theirs takes nothing from it.
        """
        for name in ("", tier) if within else ("",):
            if name in self._margins and now - self._margins[name][1] < _TOGETHER_S:
                continue
            self._margins[name] = (min(_MISS_MOST, self.margin(name, now) + _MISS), now)

    def margin(self, tier: str, now: float) -> float:
        """Share of its time that a newcomer must be predicted to have left, beyond what the policy asks.

        ``tier``: of a newcomer within its tier's share; "" for one beyond it.
        """
        margin, seen = self._margins.get(tier, (0.0, now))
        return margin * exp(-(now - seen) / _MISS_S)

    def answered(
        self, tier: str, behind: bool, texts: int, deadline_s: float | None, predicted_s: float, real_s: float
    ) -> None:
        """A request took so long, of which ``predicted_s`` was foreseen before `correction`."""
        if predicted_s > 0 and real_s > 0:
            alike = _alike(tier, behind, texts, deadline_s)
            error, count = self._answers.get(alike, (0.0, 1))
            most = max(_ANSWER_MOST, _FIRST_ANSWERS / count)
            more = max(-most, min(most, log(real_s / predicted_s) - error))
            self._answers[alike] = (error + max(_ANSWER, 1 / (count + 1)) * more, count + 1)

    def correction(self, tier: str, behind: bool, texts: int, deadline_s: float | None) -> float:
        """How many times as long as foreseen answers to so many texts of a tier with such a deadline take of late.

        ``behind``: of those that found others before them. Who those are, and at what depth they run, a forecast of
        one moment does not know: others come that are due sooner, or the load ebbs.
        """
        return exp(self._answers.get(_alike(tier, behind, texts, deadline_s), (0.0, 0))[0])

    def gap(self, now: float) -> float:
        """Seconds of a worker between two batches."""
        gap, seen = self._gap
        return gap if now - seen < _GAP_FORGET_S else 0.0

    def lag(self, now: float) -> float:
        """Seconds that what comes waits until this process reads it, and an answer until it is sent."""
        return _TURNS * self._turn * exp(-(now - self._turned) / _LAG_S)

    def usual_shortest(self, quantile: float) -> float:
        """The deadline that only this part of the requests is shorter than; inf where none has one."""
        left = quantile * sum(self._deadlines.values())
        for step in sorted(self._deadlines):
            left -= self._deadlines[step]
            if left < 0:
                return float(2 ** (step / _OCTAVE))
        return inf

    def _forget(self, now: float) -> None:
        rates = {flow: sum(found.texts.read(now)) for flow, found in self.flows.items()}
        for flow in sorted(rates, key=lambda flow: rates[flow])[: _MOST_FLOWS // 2]:
            del self.flows[flow]
