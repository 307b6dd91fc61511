"""A token bucket: so many texts a second, and so many at once after a rest."""

from __future__ import annotations

from time import perf_counter


class Bucket:
    """Starts full. A request larger than the bucket passes when it is full, and those after it wait longer for that."""

    def __init__(self, rate: float, burst: float | None) -> None:
        self.rate = rate  # texts a second
        self.burst = max(rate, 1.0) if burst is None else burst  # texts
        self._level = self.burst
        self._looked = perf_counter()

    def take(self, texts: int) -> float:
        """Seconds until the texts may pass; 0.0: they have."""
        now = perf_counter()
        self._level = min(self.burst, self._level + (now - self._looked) * self.rate)
        self._looked = now
        missing = min(texts, self.burst) - self._level
        if missing > 0:
            return missing / self.rate
        self._level -= texts
        return 0.0

    def give_back(self, texts: int) -> None:
        """The texts that were let pass were refused further on."""
        self._level = min(self.burst, self._level + texts)
