"""What will ask for the engine besides what is due now: what is likely to come, and what waits and is due later."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from strata.app.scheduling.learnt import FAST_S
from strata.app.scheduling.queue import Columns
from strata.app.scheduling.snapshot import Expected, Floats, Snapshot

_PARTS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)  # of the time that is foreseen, a step each


@dataclass(slots=True, frozen=True)
class Foreseen:
    """A place for each step of time and kind of request."""

    dues: Floats  # seconds from now
    texts: Floats
    tokens: Floats
    curves: npt.NDArray[np.intp]  # rows of `Curves`
    has: Floats  # seconds to answer it in, once it is here; inf: no deadline
    kept: Floats  # as of `Columns`
    within: Floats  # the part that is within its share

    def with_later(self, columns: Columns, snapshot: Snapshot) -> Foreseen:
        """The same with what waits and is due after its place, alike in depth together."""
        rows = np.flatnonzero(columns.later)
        if not len(rows):
            return self
        last = _last(snapshot)
        curves, first, of = np.unique(columns.curves[rows], return_index=True, return_inverse=True)
        length = (columns.tokens / columns.texts)[rows]
        dues, texts, tokens = [self.dues], [self.texts], [self.tokens]
        before = np.zeros(len(rows))
        for part in (0.0, *_PARTS):
            due = columns.due_by(snapshot.now + part * last)[rows]
            dues.append(np.full(len(curves), part * last))
            texts.append(np.bincount(of, due - before, len(curves)).astype(np.float64))
            tokens.append(np.bincount(of, (due - before) * length, len(curves)).astype(np.float64))
            before = due
        steps = 1 + len(_PARTS)
        every = np.concatenate(texts)
        some = every > 0
        return Foreseen(
            np.concatenate(dues)[some],
            every[some],
            np.concatenate(tokens)[some],
            np.concatenate([self.curves, np.tile(curves, steps)])[some],
            np.concatenate([self.has, np.full(steps * len(curves), math.inf)])[some],
            np.concatenate([self.kept, np.tile(columns.kept[rows][first], steps)])[some],
            np.concatenate([self.within, np.ones(steps * len(curves))])[some],
        )


def coming(rates: tuple[float, float], begin: float, end: float) -> float:
    """Texts that are likely to come between two times from now: as of late at first, then as on the whole."""
    fast, slow = rates
    return slow * (end - begin) + (fast - slow) * FAST_S * (math.exp(-begin / FAST_S) - math.exp(-end / FAST_S))


def foreseen(snapshot: Snapshot) -> Foreseen:
    """What is likely to come until the last of it would be due; what has no deadline waits for it."""
    last = _last(snapshot)
    places: list[tuple[float, float, float, int, float, float, float]] = []
    for kind in snapshot.expected:
        if kind.deadline_s == math.inf:
            continue
        before, span = 0.0, last - kind.deadline_s
        kept, within = snapshot.kept.get(kind.tier, 0.0), _carried(kind, snapshot)
        for part in _PARTS:
            texts = coming(kind.rates, before, part * span)
            due, tokens = kind.deadline_s + part * span, texts * kind.text_tokens
            places.append((due, texts, tokens, kind.curve, kind.deadline_s, kept, within))
            before = part * span
    columns = np.array(places).reshape(-1, 7).T
    return Foreseen(columns[0], columns[1], columns[2], columns[3].astype(np.intp), *columns[4:])


def _last(snapshot: Snapshot) -> float:
    """Seconds until which is foreseen."""
    usual = max((kind.deadline_s for kind in snapshot.expected if kind.deadline_s < math.inf), default=0.0)
    return usual + snapshot.policy.horizon_s


def _carried(kind: Expected, snapshot: Snapshot) -> float:
    """The part of what is foreseen of a kind that its share carries: all of it where a tier keeps its depth."""
    if kind.tier in snapshot.kept:
        return 1.0
    own = kind.part * kind.share * snapshot.capacity.workers
    return min(1.0, own / max(kind.rates[0] * kind.floor_work, 1e-12))
