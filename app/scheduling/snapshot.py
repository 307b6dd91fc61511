"""One moment as decisions see it: the workers, what waits, and what is likely to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

import numpy as np
import numpy.typing as npt

from strata.app.planning.cost import BatchBounds, Costs
from strata.app.scheduling.policy import Policy

Floats = npt.NDArray[np.float64]


@dataclass(slots=True)
class Capacity:
    """The workers and what they take."""

    costs: Costs
    workers: int  # that live; at least 1, so that what waits for the next has a forecast
    bounds: BatchBounds  # of a batch; what is due sooner than the longest takes could not be fitted in
    running_s: float = 0.0  # worker-seconds until all workers are free
    lag_s: float = 0.0  # that an answer may wait in this process

    def finish(self, work: Floats) -> Floats:
        """Seconds from now until each is answered, run in order: ``work`` in worker-seconds, running sums taken here.

        As if the workers shared all work evenly, plus the part of a request's own batch that they cannot share.
        """
        batch = min(self.bounds.seconds, float(work.sum()) / self.workers)
        if self.workers == 1:
            rest = np.maximum(batch - np.maximum(work, self.bounds.text_s), 0.0) / 2
        else:
            rest = np.minimum(np.maximum(work, batch), self.bounds.seconds) * (1 - 1 / self.workers)
        return np.asarray((self.running_s + np.cumsum(work)) / self.workers + rest + self.lag_s)

    def finish_one(self, before: float, work: float) -> float:
        """The same for one request of ``work`` behind ``before`` worker-seconds of others."""
        batch = min(self.bounds.seconds, (before + work) / self.workers)
        if self.workers == 1:  # on average half of its batch is behind it, unless that holds but one text
            rest = max(batch - max(work, self.bounds.text_s), 0.0) / 2
        else:
            rest = min(max(work, batch), self.bounds.seconds) * (1 - 1 / self.workers)
        return (self.running_s + before + work) / self.workers + rest + self.lag_s


@dataclass(slots=True, frozen=True)
class Expected:
    """What one tier is likely to send on the same terms, beside what waits."""

    tier: str
    share: float  # of the engine that is the tier's own, 0 to 1
    part: float  # of the tier's texts that are such
    rates: tuple[float, float]  # texts a second, of late and on the whole
    text_tokens: float
    deadline_s: float
    floor: int
    top: int
    curve: int  # its row of `Curves`
    floor_work: float  # worker-seconds of one text at its floor,
    top_work: float  # and at its deepest exit
    risen: tuple[float, float]  # texts a second as in `rates`, where more has begun to come as that of a new flow

    def work(self, layers: float) -> float:
        """Worker-seconds of one text at a depth between the two."""
        return self.floor_work + self._layer_work * (layers - self.floor)

    @property
    def _layer_work(self) -> float:
        return (self.top_work - self.floor_work) / max(1, self.top - self.floor)


def deepest(kinds: Sequence[Expected], work: float) -> float:
    """The depth at which one text of a tier takes so many worker-seconds on average, at most the deepest of its kinds.

    Under 0: not even their floors are carried.
    """
    floors = sum(kind.part * kind.floor_work for kind in kinds)
    tops = sum(kind.part * kind.top_work for kind in kinds)
    floor, top = sum(kind.part * kind.floor for kind in kinds), max(kind.top for kind in kinds)
    if work >= tops:
        return float(top)
    return floor + (top - floor) * (work - floors) / max(tops - floors, 1e-12) if work >= floors else -1.0


@dataclass(slots=True)
class Snapshot:
    """Everything that a decision may depend on."""

    now: float
    capacity: Capacity
    policy: Policy
    expected: Sequence[Expected] = ()
    kept: Mapping[str, float] = field(default_factory=dict)  # tier: layers that its share carries; others' it is not
    steady: float = 0.0  # part of what comes that comes as others are answered: no more will
    margin: float = 0.0  # share of its time that one beyond its share must have left, beyond what the policy asks

    @property
    def light(self) -> bool:
        """Whether the engine carries at full depth what comes of late."""
        return self.load <= self.policy.light_load

    @property
    def load(self) -> float:
        """The part of the engine that what comes of late takes at full depth; over 1: more than there is."""
        return sum(kind.rates[0] * kind.top_work for kind in self.expected) / self.capacity.workers

    @property
    def lasting(self) -> float:
        """The part of the engine that what comes on the whole takes at the least depth; 1 and more: it takes all.

        Who keeps its depth counts with that as far as another sends more than its share: what is left is asked for.
        """
        loads: dict[str, float] = {}
        floors = keeps = 0.0
        for kind in self.expected:
            work = kind.rates[1] * kind.floor_work
            if kind.deadline_s == inf:  # what comes of it beyond its part waits for capacity that nobody wants
                work = min(work, self.policy.unhurried_share * kind.share * self.capacity.workers)
            floors += work
            keeps += kind.rates[1] * kind.work(max(kind.floor, self.kept.get(kind.tier, 0.0))) - work
            loads[kind.tier] = loads.get(kind.tier, 0.0) + work / (kind.share * self.capacity.workers)
        beyond = min(1.0, max(0.0, max(loads.values(), default=0.0) - 1.0))
        return (floors + beyond * keeps) / self.capacity.workers

    @property
    def kept_load(self) -> float:
        """Of its share, the most that a tier takes on the whole at the depth it keeps."""
        loads: dict[str, float] = {}
        for kind in self.expected:
            if kind.tier in self.kept:
                work = kind.rates[1] * kind.work(min(self.kept[kind.tier], kind.top))
                loads[kind.tier] = loads.get(kind.tier, 0.0) + work / (kind.share * self.capacity.workers)
        return max(loads.values(), default=0.0)
