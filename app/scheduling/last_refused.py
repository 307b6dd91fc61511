"""What was refused a moment ago is refused again: in a flood most of what comes is like what came just before it."""

from __future__ import annotations

from dataclasses import dataclass

from strata.app.scheduling.learnt import Flow

# What lateness loses at most in a second, while nothing leaves the queue: batches under way go on, and forecasts are
# taken half their error longer than they are.
_A_SECOND = 1.5
Asked = tuple[Flow, int, int]  # who asks, the fewest layers, how many texts


@dataclass(slots=True, frozen=True)
class _Refused:
    tokens: int
    slack_s: float
    late_s: float
    at: float


class LastRefused:
    """The last refused of those who asked alike, at one moment: what is no smaller is not judged."""

    def __init__(self) -> None:
        self._moment: object = None
        self._last: dict[Asked, _Refused] = {}

    def late_s(self, asked: Asked, tokens: int, slack_s: float, now: float, moment: object) -> float:
        """By how much a newcomer would be late at least, seconds; 0: that is not known, and it is to be judged.

        ``slack_s``: until its deadline. ``moment``: the same as long as nothing has left the queue and no worker came
        or became free: a batch may be done long before it was expected to be.
        """
        if moment != self._moment:
            self._moment = moment
            self._last.clear()
        known = self._last.get(asked)
        if known is None or tokens < known.tokens:
            return 0.0
        return max(0.0, known.late_s - _A_SECOND * (now - known.at + max(0.0, slack_s - known.slack_s)))

    def refused(self, asked: Asked, tokens: int, slack_s: float, late_s: float, now: float) -> None:
        """One was judged, and would be late by so much, or be beyond its share by less."""
        self._last[asked] = _Refused(tokens, slack_s, late_s, now)
