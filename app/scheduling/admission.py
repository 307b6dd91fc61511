"""Admission: who is let in, so that whoever is can be answered in time."""

from __future__ import annotations

from collections.abc import Mapping
from math import exp

from strata.app.scheduling.depths import Engine, at_level
from strata.app.scheduling.ladder import Ladders
from strata.app.scheduling.queue import Columns

MARGIN = 0.8  # of a request's time that its predicted answer may take: predictions err, and every newcomer delays it
_OVER_SHARE = 0.6  # the same for a tier that has had more than its share: it leaves room for those that have not
_MEMORY_S = 5.0  # how long work that was let in counts against its tier's share
_UNHURRIED = 0.5  # of the engine is the most that work without a deadline may claim as its share


def lateness(
    columns: Columns, at: int, work: float, slack: float, bound: float, ladders: Ladders, engine: Engine, now: float
) -> float:
    """Seconds by which a newcomer at place ``at`` would be late itself or make one behind it late; 0 if none.

    ``work`` in worker-seconds, ``slack`` in seconds until its deadline. Everything runs at its floor; the newcomer must
    be ready within ``bound`` of its slack, the others by their limits; who is late without it does not count.
    """
    waiting = at_level(columns, 0, ladders, engine)
    before = float(waiting[:at].sum())
    doubt = 1 + engine.cost.spread
    own = doubt * engine.finish_one(before, work) - bound * slack
    if at == len(waiting):
        return max(0.0, own)
    left = (columns.deadlines - now)[at:]
    finish = engine.finish(waiting)[at:]
    after = doubt * (finish + work / engine.workers) - (columns.limits - now)[at:]
    made_late = (finish <= left) & (after > 0)
    return max(0.0, own, float(after[made_late].max()) if made_late.any() else 0.0)


class Shares:
    """Worker-seconds let in lately per tier, against each tier's share of what is busy."""

    def __init__(self) -> None:
        self._shares: Mapping[str, float] = {}
        self._used: dict[str, float] = {}
        self._turns: dict[str, float] = {}  # when a tier will have had its share for all it asked without a deadline
        self._then = 0.0

    def set(self, shares: Mapping[str, float]) -> None:
        """The tiers' shares, relative to one another."""
        self._shares = dict(shares)

    def bound(self, tier: str, now: float, workers: int) -> float:
        """The part of its time within which a tier's newcomer must be predicted to be ready."""
        self._forget(now)
        busy = {name for name, used in self._used.items() if used > 0.01 * _MEMORY_S} | {tier}
        share = self._shares.get(tier, 1.0) / sum(self._shares.get(name, 1.0) for name in busy)
        within = self._used.get(tier, 0.0) <= share * workers * _MEMORY_S
        return MARGIN if within else _OVER_SHARE

    def turn(self, tier: str, seconds: float, now: float, workers: int) -> float:
        """When a tier's share has paid for this much more work without a deadline: until then others go first."""
        share = min(_UNHURRIED, self._shares.get(tier, 1.0) / sum((self._shares or {tier: 1.0}).values()))
        self._turns[tier] = max(now, self._turns.get(tier, now)) + seconds / (share * workers)
        return self._turns[tier]

    def let_in(self, tier: str, seconds: float, now: float) -> None:
        """Work of a tier was let in."""
        self._forget(now)
        self._used[tier] = self._used.get(tier, 0.0) + seconds

    def _forget(self, now: float) -> None:
        keep = exp(-(now - self._then) / _MEMORY_S)
        self._then = now
        for name in self._used:
            self._used[name] *= keep
