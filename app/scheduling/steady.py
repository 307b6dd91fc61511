"""Whether the server has always the same in hand: callers that wait for an answer before they ask again bring no more.

Of so many connections all wait at some moment, in every second alike. What comes whether others are answered or not,
however much it is, comes and goes.
"""

from __future__ import annotations

from collections import deque
from math import exp, inf

_WINDOW_S, _WINDOWS = 1.5, 3  # that are compared
_MEAN_S = 2.0
_SOME, _ALL = 0.65, 0.85  # mean over most, from which on some of it is taken to be steady, and all
_ALIKE, _OTHER = 0.02, 0.08  # by which the windows' mosts differ, up to which all of it is, and from which on nothing
_REFUSED_S = 10.0  # after a refusal, nothing is: who is refused may come again


class Steady:
    """Texts in hand, waiting or running, as each newcomer finds them."""

    def __init__(self) -> None:
        self._began = self._then = 0.0
        self._most = 0.0  # of this window,
        self._mosts: deque[float] = deque(maxlen=_WINDOWS)  # and of those before
        self._mean = 0.0
        self._refused = -inf

    def found(self, texts: int, now: float) -> None:
        """A newcomer found so many."""
        if now - self._began > _WINDOW_S:
            if now - self._began > 2 * _WINDOW_S:
                self._mosts.clear()
            elif self._most:
                self._mosts.append(self._most)
            self._began, self._most = now, 0.0
        self._most = max(self._most, texts)
        self._mean += (1 - exp(-(now - self._then) / _MEAN_S)) * (texts - self._mean)
        self._then = now

    def refused(self, now: float) -> None:
        """A newcomer was refused."""
        self._refused = now

    def part(self, now: float) -> float:
        """From 0, where it comes and goes, to 1, where it is always the same."""
        if len(self._mosts) < _WINDOWS or now - self._refused < _REFUSED_S:
            return 0.0
        least, most = min(self._mosts), max(*self._mosts, self._most)
        level = (self._mean / most - _SOME) / (_ALL - _SOME)
        alike = (_OTHER - (most / least - 1)) / (_OTHER - _ALIKE)
        return min(1.0, max(0.0, level)) * min(1.0, max(0.0, alike))
