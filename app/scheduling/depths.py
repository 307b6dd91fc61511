"""The depths: the most quality such that everything that waits, or is likely to come, can be in time.

SlackFit (SuperServe, NSDI'25) picks one subnet a batch from the slack of the earliest deadline, and EdgeServing
(arXiv 2605.05527) one exit a queue. Here every row has its own depth, floor and worth, so the choice is a price of
engine time (see curves.py) for all that is due before a tight deadline; whatever is due later is priced anew.
What a tier within its share gets is not taken from it: the others go to their floors first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from strata.app.scheduling.curves import LEVELS, Curves, shift
from strata.app.scheduling.foreseen import foreseen
from strata.app.scheduling.queue import Columns
from strata.app.scheduling.snapshot import Floats, Snapshot

Levels = npt.NDArray[np.intp]


@dataclass(slots=True, frozen=True)
class Depths:
    """What the head of the queue is run at."""

    layers: npt.NDArray[np.intp]  # of each request, in order; those far behind are decided later
    level: int  # of the first; LEVELS - 1 is full depth


def kept_free(snapshot: Snapshot) -> tuple[float, float]:
    """(Part of the time left by which all must be predicted to be answered, the most seconds kept free after that)."""
    policy = snapshot.policy
    lasting = min((1 - snapshot.steady) * snapshot.lasting, policy.most_lasting)
    headroom = policy.headroom + lasting * (policy.headroom_lasting - policy.headroom)
    headroom += snapshot.steady * (policy.headroom_steady - headroom)
    return headroom, policy.headroom_s / (1 - lasting)


def kept_free_by_shares(snapshot: Snapshot) -> tuple[float, float]:
    """The same of tiers that keep their depth: free for what may come of them, which has no more than their shares.

    Of the others as much is foreseen as may go before them.
    """
    policy = snapshot.policy
    shares = {kind.tier: kind.share for kind in snapshot.expected if kind.tier in snapshot.kept}
    headroom = 1 - (1 - policy.kept_headroom) * min(1.0, sum(shares.values()))
    return headroom, policy.headroom_s / (1 - min(snapshot.kept_load, policy.most_lasting))


class Pricing:
    """Requests that wait and that are foreseen, in order of due time, with their depth at each level."""

    def __init__(self, columns: Columns, snapshot: Snapshot, curves: Curves) -> None:
        capacity, costs = snapshot.capacity, snapshot.capacity.costs
        others = foreseen(snapshot).with_later(columns, snapshot)
        waiting = len(columns)
        self._capacity = capacity
        self._rows = curves.rows
        has = np.concatenate([columns.deadlines - snapshot.now, others.has])
        slack = np.where(np.isinf(has), np.inf, np.concatenate([has[:waiting], others.dues]))
        order = np.argsort(np.concatenate([columns.dues - snapshot.now, others.dues]), kind="stable")
        self.real = order < waiting  # places of what waits
        self.place = order
        self.slack = slack[order]
        self.tokens = np.concatenate([columns.tokens, others.tokens])[order]
        self.texts = np.concatenate([columns.texts, others.texts])[order]
        self.curves = np.concatenate([columns.curves, others.curves])[order]
        kept = np.concatenate([columns.kept, others.kept])[order]
        self.kept = kept > 0
        usual = costs.per_layer(np.array([capacity.bounds.text_tokens]))
        length = self.tokens / np.maximum(self.texts, 1e-9)
        self.shift = np.clip(shift(costs.per_layer(length), float(usual[0])), -LEVELS, LEVELS)
        (part, most), (own_part, own_most) = kept_free(snapshot), kept_free_by_shares(snapshot)
        # Of what waits a part of the time it has left; of what is foreseen a part of the time that it will have.
        spare = (1 - np.where(self.kept, own_part, part)) * has[order]
        spare = np.minimum(spare, np.where(self.kept, own_most, most))
        self._goal = self.slack - spare
        self.any_kept = bool(self.kept.any())
        # What is beyond its share, be it waiting or foreseen, takes no depth from those who keep theirs.
        within = np.concatenate([columns.within, others.within])[order]
        self._within = within if self.any_kept and (within < 1).any() else None
        self.span = LEVELS - 1 + max(0, int(self.shift.max(initial=0))) - min(0, int(self.shift.min(initial=0)))
        self._offset = min(0, int(self.shift.min(initial=0)))
        self.top = self.span * (2 if self.any_kept else 1)
        cap = costs.deepest(np.minimum(length, capacity.bounds.tokens), self.slack - capacity.lag_s)
        # Alone on a worker a text gets no deeper than this, whatever else waits.
        self.cap = self._exits_within(cap)
        # What a tier's share does not carry, it gets at the price of all.
        self._keeps = self._exits_within(np.where(self.kept, kept, np.inf)) if self.any_kept else None

    def _exits_within(self, layers: Floats) -> Floats | None:
        """Of each the deepest exit with at most so many layers, or its floor; None: everybody's deepest has no more."""
        table = self._rows[self.curves]
        if not (layers < table[:, -1]).any():
            return None
        fits = np.maximum((table <= layers[:, None]).sum(axis=1) - 1, 0)
        return np.asarray(table[np.arange(len(table)), fits])

    def layers(self, level: Levels | int) -> Floats:
        """Of each at a level: from 0, everybody's floor, to ``top``, everybody's full depth."""
        level = np.asarray(level)
        if not self.any_kept:
            found = self._at(level)
        elif self._keeps is None:  # the same as below with one look into the table in the place of two
            found = self._at(np.where(self.kept, np.minimum(level, self.span), np.maximum(level - self.span, 0)))
        else:
            own = np.minimum(self._at(np.minimum(level, self.span)), self._keeps)
            priced = self._at(np.maximum(level - self.span, 0))
            found = np.where(self.kept, np.maximum(own, priced), priced)
        return found if self.cap is None else np.minimum(found, self.cap)

    def _at(self, level: Levels) -> Floats:
        """Of each at a level of price, from 0 to ``span``."""
        at = np.clip(level + self._offset - self.shift, 0, LEVELS - 1)
        at = np.where(level <= 0, 0, np.where(level >= self.span, LEVELS - 1, at))
        return np.asarray(self._rows[self.curves, at])

    def late(self, levels: Levels | int) -> npt.NDArray[np.bool_]:
        """Which would not be in time at these levels."""
        layers = self.layers(levels)
        capacity = self._capacity
        work = capacity.costs.rows(self.tokens, self.texts, layers, capacity.bounds)
        doubt = 1 + capacity.costs.spread
        finish = doubt * capacity.finish(work)
        if self._within is not None:
            finish = np.where(self.kept, doubt * capacity.finish(self._within * work), finish)
        # What is kept free is so for what may come; a long text alone is not cut short for it.
        return np.asarray((finish > self.slack) | (finish - doubt * work > self._goal))


def choose(columns: Columns, snapshot: Snapshot, curves: Curves, enough_tokens: float) -> Depths:
    """The depth of each request, from the head of the queue up to at least ``enough_tokens`` of them."""
    pricing = Pricing(columns, snapshot, curves)
    hopeless = pricing.late(0)
    if pricing.any_kept:  # the others are not saved by the depth of those within their share
        hopeless = np.where(pricing.kept, hopeless, pricing.late(pricing.span))
    tokens = np.cumsum(np.where(pricing.real, pricing.tokens, 0.0))
    levels = np.full(len(pricing.slack), pricing.top, np.intp)
    start = 0

    def misses(level: int) -> npt.NDArray[np.intp]:
        """Places from ``start`` on that would be late with all of them at this level, and need not be."""
        levels[start:] = level
        late = pricing.late(levels) & ~hopeless
        return start + np.flatnonzero(late[start:])

    for _ in range(snapshot.policy.most_segments):
        low, high, binding = 0, pricing.top, misses(pricing.top)
        if not len(binding):
            break
        while high - low > 1:  # at `high` somebody would be late, at `low` nobody
            middle = (low + high) // 2
            found = misses(middle)
            if len(found):
                high, binding = middle, found
            else:
                low = middle
        misses(low)
        start = int(binding[-1]) + 1
        if start >= len(levels) or tokens[start - 1] >= enough_tokens:
            break
    # Those late whatever is done hurry as much as they can, and so does all that is due before them.
    for kept, most in ((True, 0), (False, pricing.span if pricing.any_kept else 0)):
        behind = np.flatnonzero(hopeless & pricing.real & (pricing.kept == kept))
        if len(behind):
            head = levels[: int(behind[-1]) + 1]
            np.minimum(head, most, out=head)
    layers = pricing.layers(levels)
    found = np.zeros(len(columns), np.intp)
    found[pricing.place[pricing.real]] = layers[pricing.real].astype(np.intp)
    return Depths(
        found, min(LEVELS - 1, max(0, int(levels[pricing.real][0]) - (pricing.span if pricing.any_kept else 0)))
    )
