"""How late the event loop is: what it is to run at a time, it runs when nothing else holds it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_EVERY_S = 0.1  # ten looks a second cost the loop nothing, and find what holds it for that long


class LoopLag:
    """Reports, ten times a second, how many seconds later than asked the loop came to it."""

    def __init__(self, report: Callable[[float], None]) -> None:
        self._report = report
        self._next: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to look, on the running loop."""
        loop = asyncio.get_running_loop()
        due = loop.time() + _EVERY_S
        self._next = loop.call_at(due, self._look, loop, due)

    def stop(self) -> None:
        """Look no more."""
        if self._next:
            self._next.cancel()

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._report(max(0.0, loop.time() - due))
        self.start()
