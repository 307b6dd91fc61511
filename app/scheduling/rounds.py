"""A few rounds of the event loop, before a batch is formed: requests whose bytes have arrived get into it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

# A request takes two rounds of the loop from its socket to the queue. No wait window: an idle loop goes round at once.
_ROUNDS = 3
_ROUNDS_S = 0.002  # but no longer than this, where hundreds of callers make a round long


class Rounds:
    """Calls ``over`` a few rounds after it was told to begin. ``clock``: seconds."""

    def __init__(self, clock: Callable[[], float], over: Callable[[], None]) -> None:
        self._clock = clock
        self._over = over
        self._began: float | None = None  # None: none are under way

    @property
    def late(self) -> bool:
        """Whether those under way take longer than is worth waiting for."""
        return self._began is not None and self._clock() - self._began > _ROUNDS_S

    def begin(self) -> None:
        """Begin, unless some are under way."""
        if self._began is None:
            self._began = self._clock()
            self._next(_ROUNDS)

    def _next(self, left: int) -> None:
        asyncio.get_running_loop().call_soon(*((self._next, left - 1) if left else (self._end,)))

    def _end(self) -> None:
        self._began = None
        self._over()
