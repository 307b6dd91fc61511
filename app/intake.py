"""Requests begin a few a turn of the loop, so that answers go out between them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import perf_counter

from starlette.types import Scope

_A_TURN = 8  # requests: about 1 ms
_AT_ONCE = frozenset({"/health", "/ready"})
_CAME = "strata.came"


class Intake:
    """Where requests wait whose heads have been read, in order.

    In a flood hundreds of connections have something to say in one turn of the loop. Were all of them heard at once,
    the turn would take up to a quarter of a second, and so long would answers wait that are ready.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[Scope, Callable[[], None]]] = deque()
        self._begun = 0  # in this turn

    def begin(self, loop: asyncio.AbstractEventLoop, scope: Scope, start: Callable[[], None]) -> None:
        """Let a request begin, in this turn or a later one."""
        if not self._begun:
            loop.call_soon(self._turn_over, loop)
        if self._begun < _A_TURN or scope["path"] in _AT_ONCE:
            self._begun += 1
            start()
        else:
            scope[_CAME] = perf_counter()
            self._waiting.append((scope, start))

    def _turn_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """What has begun has had its first step: the next ones may begin."""
        self._begun = 0
        while self._waiting and self._begun < _A_TURN:
            self.begin(loop, *self._waiting.popleft())


def came(scope: Scope) -> float:
    """When a request came, as `perf_counter` counts: before now, if it had to wait for its turn."""
    at: float | None = scope.get(_CAME)
    return perf_counter() if at is None else at
