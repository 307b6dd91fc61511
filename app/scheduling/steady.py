"""How steady it is what the server has in hand: callers that wait for an answer before they ask again bring no more."""

from __future__ import annotations

from math import exp

_WINDOW_S = 2.5  # the most is of this one and the one before
_MEAN_S = 2.0
# Mean over most, from which on some of it is taken to be steady, and all.
_SOME, _ALL = 0.65, 0.85
_GROWS = 1.2  # times as many as in the window before: what grows so is not steady at all


class Steady:
    """Texts in hand, waiting or running, as each newcomer finds them."""

    def __init__(self) -> None:
        self._began = self._then = 0.0
        self._most = self._most_before = 0.0
        self._mean = 0.0

    def found(self, texts: int, now: float) -> None:
        """A newcomer found so many."""
        if now - self._began > _WINDOW_S:
            recent = now - self._began < 2 * _WINDOW_S
            self._most_before, self._most = (self._most if recent else 0.0), 0.0
            self._began = now
        self._most = max(self._most, texts)
        self._mean += (1 - exp(-(now - self._then) / _MEAN_S)) * (texts - self._mean)
        self._then = now

    @property
    def part(self) -> float:
        """From 0, where it comes and goes, to 1, where it is always the same."""
        most = max(self._most, self._most_before)
        if not most:
            return 0.0
        level = (self._mean / most - _SOME) / (_ALL - _SOME)
        growth = (self._most / self._most_before - 1) / (_GROWS - 1) if self._most_before else 1.0
        return min(1.0, max(0.0, level)) * (1 - min(1.0, max(0.0, growth)))
