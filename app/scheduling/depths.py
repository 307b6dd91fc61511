"""The depths: the most quality such that everything in the queue that can be in time is.

SlackFit (SuperServe, NSDI'25) picks one subnet a batch from the slack of the earliest deadline. Here every row has its
own depth and floor, so the choice is a level (see ladder.py), and all deadlines of the queue are looked at: as quality
grows less than in proportion to depth, the best way to meet the deadlines up to a tight one is one level for all that
is due before it, and whatever is due later is levelled anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from strata.app.planning.cost import BatchBounds, CostModel
from strata.app.scheduling.ladder import Ladders
from strata.app.scheduling.queue import Columns

Floats = npt.NDArray[np.float64]
_MOST_SEGMENTS = 3  # a batch comes from the head of the queue; what is due long after it is looked at next time


@dataclass(slots=True, frozen=True)
class Engine:
    """The engine as a decision sees it."""

    cost: CostModel
    workers: int
    bounds: BatchBounds  # of a batch; what is due sooner than the longest takes could not be fitted in
    running_s: float  # worker-seconds until all workers are free

    def finish(self, work: Floats) -> Floats:
        """Seconds from now until each is answered, run in order: ``work`` in worker-seconds, running sums taken here.

        As if the workers shared all work evenly, plus the part of a request's own batch that they cannot share.
        """
        batch = min(self.bounds.seconds, float(work.sum()) / self.workers)
        alone = np.minimum(np.maximum(work, batch), self.bounds.seconds) * (1 - 1 / self.workers)
        return np.asarray((self.running_s + np.cumsum(work)) / self.workers + alone)

    def finish_one(self, before: float, work: float) -> float:
        """The same for one request of ``work`` behind ``before`` worker-seconds of others."""
        alone = min(max(work, (before + work) / self.workers), self.bounds.seconds) * (1 - 1 / self.workers)
        return (self.running_s + before + work) / self.workers + alone

    def work(self, tokens: int, layers: float) -> float:
        """Worker-seconds of so many tokens at a depth."""
        return self.cost.row(tokens, layers, self.bounds)


def at_level(columns: Columns, level: npt.NDArray[np.intp] | int, ladders: Ladders, engine: Engine) -> Floats:
    """Worker-seconds of each request at a level."""
    return engine.cost.rows(columns.tokens, ladders.depth(columns.ladders, level), engine.bounds)


def choose_levels(
    columns: Columns, now: float, enough_tokens: float, ladders: Ladders, engine: Engine
) -> npt.NDArray[np.intp]:
    """The level of each request from the head of the queue, up to at least ``enough_tokens`` of them."""
    top = ladders.layers
    slack = columns.goals - now
    # Alone on a worker, a text gets no deeper than this, whatever else waits.
    cap = np.clip(engine.cost.deepest(np.minimum(columns.tokens, engine.bounds.tokens), slack), 0, top).astype(np.intp)
    floor_misses = engine.finish(at_level(columns, 0, ladders, engine)) > slack
    tokens = np.cumsum(columns.tokens)
    levels = cap.copy()
    start = 0

    def misses(level: int) -> npt.NDArray[np.intp]:
        """Places from ``start`` on that would be late with all of them at this level but would not at their floor."""
        levels[start:] = np.minimum(cap[start:], level)
        late = engine.finish(at_level(columns, levels, ladders, engine)) > slack
        return start + np.flatnonzero((late & ~floor_misses)[start:])

    for _ in range(_MOST_SEGMENTS):
        low, high, binding = 0, top, misses(top)
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
    # Those late even at their floor hurry as much as they can, and so does all that is due before them.
    behind = np.flatnonzero(floor_misses)
    if len(behind):
        levels[: int(behind[-1]) + 1] = 0
    return levels
