"""The most quality that any scheduler could reach that knows all arrivals: an upper bound, by a linear program.

Work is a fluid here: a text may be cut anywhere, may be answered in part, and runs on all workers at once in batches as
full as can be. So no schedule reaches the bound, and a share of it is a lower bound of how near a scheduler comes.

Texts of one deadline leave in the order they came, which loses nothing. So much work done by a time is then all that a
schedule is: what is due by then is in it, and nothing that came later.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import inf

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array

from strata.loadtest.simulation.engine import Speed
from strata.loadtest.simulation.traffic import Call

_SLOT_S = 0.025  # arrivals are rounded down to it and deadlines up, which is to the oracle's advantage


def most_quality(calls: Sequence[Call], speed: Speed, workers: int, batch_tokens: int = 512) -> float:
    """Bound on the sum of quality over all calls answered in time, with ``workers`` alike for the whole time.

    A call is worth the share of full quality of the depth it gets, once whatever its texts; 0 where it gets none.
    """
    deadlines = sorted({call.terms.deadline_s or inf for call in calls})
    end = max(call.at + (call.terms.deadline_s or 0.0) for call in calls)
    unhurried = [call for call in calls if call.terms.deadline_s is None]
    end = max(end, sum(_hull(call, speed, batch_tokens)[-1][0] for call in unhurried) + end) if unhurried else end
    slots = int(np.ceil(end / _SLOT_S)) + 1
    program = _Program(deadlines, slots)
    for call in calls:
        program.add(call, _hull(call, speed, batch_tokens))
    return program.solve(workers * _SLOT_S)


def _hull(call: Call, speed: Speed, batch_tokens: int) -> list[tuple[float, float]]:
    """(worker-seconds, quality) on the upper concave hull of what a call may get, from (0, 0) for nothing."""
    found = [(0.0, 0.0)]
    for layers, worth in zip(call.terms.exits, call.terms.quality, strict=True):
        quality = worth.share if worth else (layers / call.terms.exits[-1]) ** 0.25
        every = speed.token + speed.token_layer * layers + (speed.batch + speed.layer * layers) / batch_tokens
        work = sum(n * every + n * n * layers * speed.square_layer for n in call.lengths)
        if work <= 0.0:
            work = 1e-9
        if quality <= found[-1][1]:
            continue
        while len(found) > 1 and _slope(found[-1], (work, quality)) >= _slope(found[-2], found[-1]):
            found.pop()
        found.append((work, quality))
    return found


def _slope(one: tuple[float, float], other: tuple[float, float]) -> float:
    return (other[1] - one[1]) / max(other[0] - one[0], 1e-12)


class _Program:
    """Variables: a part (0 to 1) of each step of each call's hull; then, of each deadline and slot, the work done by
    the slot's end, and the work of what has arrived by then.
    """

    def __init__(self, deadlines: Sequence[float], slots: int) -> None:
        self._deadlines = {deadline: place for place, deadline in enumerate(deadlines)}
        self._slots = slots
        self._gains: list[float] = []
        self._works: list[float] = []
        self._arrive: list[tuple[int, int]] = []  # of each part: place of its deadline, slot

    def add(self, call: Call, hull: Sequence[tuple[float, float]]) -> None:
        """One call more."""
        place = self._deadlines[call.terms.deadline_s or inf]
        for (work, quality), (more, better) in pairwise(hull):
            self._gains.append(better - quality)
            self._works.append(more - work)
            self._arrive.append((place, int(call.at / _SLOT_S)))

    def solve(self, capacity: float) -> float:
        """The largest sum of gains; ``capacity``: worker-seconds of a slot."""
        parts, slots, kinds = len(self._gains), self._slots, len(self._deadlines)
        done = parts + np.arange(kinds * slots).reshape(kinds, slots)
        come = done + kinds * slots
        size = parts + 2 * kinds * slots
        equal, least = _Rows(size), _Rows(size)
        arrived: dict[tuple[int, int], list[int]] = {}
        for part, at in enumerate(self._arrive):
            arrived.setdefault(at, []).append(part)
        for deadline, kind in self._deadlines.items():
            wait = slots if deadline == inf else int(np.ceil(deadline / _SLOT_S)) + 1
            for slot in range(slots):
                here = arrived.get((kind, slot), [])
                row = [(come[kind, slot], 1.0), *((part, -self._works[part]) for part in here)]
                equal.add(row + ([(come[kind, slot - 1], -1.0)] if slot else []))
                least.add([(done[kind, slot], 1.0), (come[kind, slot], -1.0)])
                if slot >= wait:
                    least.add([(come[kind, slot - wait], 1.0), (done[kind, slot], -1.0)])
                if slot:
                    least.add([(done[kind, slot - 1], 1.0), (done[kind, slot], -1.0)])
        for slot in range(slots):
            before = [(done[kind, slot - 1], -1.0) for kind in range(kinds)] if slot else []
            least.add([*((done[kind, slot], 1.0) for kind in range(kinds)), *before], capacity)
        # What is never run never arrives: work is done by the end, or was not taken.
        for kind in range(kinds):
            least.add([(come[kind, slots - 1], 1.0), (done[kind, slots - 1], -1.0)])
        costs = np.zeros(size)
        costs[:parts] = -np.array(self._gains)
        bounds = np.zeros((size, 2))
        bounds[:, 1] = np.inf
        bounds[:parts, 1] = 1.0
        found = linprog(
            costs,
            A_ub=least.matrix(),
            b_ub=least.bounds,
            A_eq=equal.matrix(),
            b_eq=equal.bounds,
            bounds=bounds,
            method="highs",
        )
        if found.status != 0:
            raise ValueError(f"the oracle's linear program: {found.message}")
        return float(-found.fun)


class _Rows:
    """Rows of a sparse matrix, and what they are bounded by."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._entries: list[tuple[int, int, float]] = []
        self.bounds: list[float] = []

    def add(self, row: Sequence[tuple[int, float]], bound: float = 0.0) -> None:
        """One row more, as (column, value)."""
        self._entries += [(len(self.bounds), int(column), value) for column, value in row]
        self.bounds.append(bound)

    def matrix(self) -> coo_array:
        """All of it."""
        rows, columns, values = (np.array(found) for found in zip(*self._entries, strict=True))
        return coo_array((values, (rows, columns)), shape=(len(self.bounds), self._columns))
