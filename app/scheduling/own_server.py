"""A server of a flow's own, as fast as its share of the engine: what it would still have to do for what it let in."""

from __future__ import annotations

from math import inf


class OwnServer:
    """Runs what is due soonest first: one with little time does not wait for documents that have seconds.

    Times in the scheduler's clock. Requests with alike deadlines run one after the other.
    """

    __slots__ = ("_left", "_then")

    def __init__(self, now: float) -> None:
        self._then = now
        # By kind, in order: seconds, and when the last of them is due.
        self._left: dict[float, tuple[float, float]] = {}

    def before(self, kind: float, now: float) -> tuple[float, float]:
        """Seconds until a newcomer is begun; and that it may take at most, or what is due later would be late.

        ``kind``: the shorter the deadline, the less.
        """
        self._run(now)
        before, spare, done = 0.0, inf, 0.0
        for other, (seconds, due) in self._left.items():
            done += seconds
            if other <= kind:
                before = done
            else:
                spare = min(spare, due - now - done)
        return before, spare

    def promise(self, kind: float, seconds: float, due: float) -> None:
        """So much more is to be done by then, as of the last look ``before``."""
        others = len(self._left)
        left, last = self._left.get(kind, (0.0, due))
        self._left[kind] = (left + seconds, max(last, due))
        if 0 < others < len(self._left):
            self._left = dict(sorted(self._left.items()))

    def give_back(self, kind: float, seconds: float) -> None:
        """So much of that will not be run after all."""
        if kind in self._left:
            left, due = self._left[kind]
            self._left[kind] = (max(0.0, left - seconds), due)

    def idle(self, now: float) -> bool:
        """Whether it would have nothing to do."""
        self._run(now)
        return not self._left

    def _run(self, now: float) -> None:
        elapsed, self._then = now - self._then, now
        while self._left:
            kind, (seconds, due) = next(iter(self._left.items()))
            if seconds > elapsed:
                self._left[kind] = (seconds - elapsed, due)
                break
            elapsed -= seconds
            del self._left[kind]
