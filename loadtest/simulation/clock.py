"""An event loop whose time jumps to the next thing that happens."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class VirtualLoop(asyncio.SelectorEventLoop):
    """``time()`` starts at 0 and moves when nothing is left to do before a timer; nothing may wait for a socket."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """Virtual seconds."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Move on."""
        self._now += seconds


class _Jumping(selectors.DefaultSelector):
    """Instead of waiting, the clock is moved."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found: list[Any] = super().select(0)
        if not found:
            if timeout is None:
                raise RuntimeError("nothing will ever happen: every task waits for another")
            self._loop.jump(timeout)
        return found
