"""What each tier would have waiting if it had its share of the engine to itself: a burst of its own, or none.

What really waits says less: the others may have gone first, because they are due sooner.
"""

from __future__ import annotations

from collections.abc import Mapping


class Backlogs:
    """Times in seconds of the scheduler's clock."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[float, float]] = {}  # by tier; and when
        self._carried: Mapping[str, float] = {}

    def carry(self, carried: Mapping[str, float]) -> None:
        """From now on the tiers' shares carry so many texts a second, at the depth that they carry all that comes."""
        self._carried = carried

    def came(self, tier: str, texts: float, now: float) -> None:
        """So many texts with a deadline came."""
        self._texts[tier] = (self.read(tier, now) + texts, now)

    def read(self, tier: str, now: float) -> float:
        """Texts that would wait."""
        texts, then = self._texts.get(tier, (0.0, now))
        return max(0.0, texts - self._carried.get(tier, 0.0) * (now - then))
