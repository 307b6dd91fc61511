"""Requests begin a few a turn of the loop, so that answers go out between them, and each tier has its share of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

from starlette.types import Scope

from strata.app.callers.callers import Caller, Callers, KeyRefused
from strata.app.lines import Lines, Place

_A_TURN = 8  # requests: about 1 ms
_AT_ONCE = ("/health", "/ready")  # also behind --root-path, and with a slash at the end
# Of the time that a request may take, the most that it may wait to begin: what would wait longer is refused at once, so
# that those that are heard have time left (controlled delay: Nichols and Jacobson 2012).
_PATIENCE = 0.3
_NEWEST = 0.1  # weight of the newest turn in how long each takes
_CAME, _CROWDED = "strata.came", "strata.crowded"


class Intake:
    """Where requests wait whose heads have been read.

    In a flood hundreds of connections have something to say in one turn of the loop. Were all of them heard at once,
    the turn would take up to a quarter of a second, and so long would answers wait that are ready. Were they heard in
    the order they come, who sends most would be heard most, and others refused for the time they waited.
    """

    def __init__(self, callers: Callers, deadline_s: Callable[[Scope, Caller], float | None]) -> None:
        """``deadline_s``: of a request whose body is not read yet; None: none is known."""
        self._callers = callers
        self._deadline_s = deadline_s
        self._lines: Lines[tuple[Scope, Callable[[], None]]] = Lines()
        self._begun = 0  # in this turn,
        self._turned = 0.0  # which began then
        self._each_s = 0.0  # from one who begins to the next; 0: nobody has waited for a turn yet

    def begin(self, loop: asyncio.AbstractEventLoop, scope: Scope, start: Callable[[], None]) -> Caller | None:
        """Let a request begin, in this turn or a later one; or whose it is, where it is crowded out."""
        if not self._begun:
            loop.call_soon(self._turn_over, loop)
            if not self._lines:
                self._turned = perf_counter()
        if self._begun < _A_TURN or scope["path"].rstrip("/").endswith(_AT_ONCE):
            self._begun += 1
            start()
            return None
        scope[_CAME] = perf_counter()
        place, caller = self._place(scope)
        if caller is not None and self._lines:
            deadline_s = self._deadline_s(scope, caller)
            if deadline_s is not None and self._lines.turns(place) * self._each_s > _PATIENCE * deadline_s:
                scope[_CROWDED] = True
                return caller
        self._lines.join(place, (scope, start))
        return None

    def _place(self, scope: Scope) -> tuple[Place, Caller | None]:
        """The line of who asks, and who it is, where that is known.

        Those who only read have one line together, with the share of the largest tier: a scrape must not wait behind a
        flood. Those with no key that is known have another, with that of the smallest.
        """
        if scope["method"] == "POST":
            try:
                caller = self._callers.caller(scope["headers"])
            except KeyRefused:
                return Place("", "unknown", min(self._shares, default=1.0)), None
            return Place(caller.own.name, caller.key or "", caller.own.share), caller
        return Place("", "reading", max(self._shares, default=1.0)), None

    @property
    def _shares(self) -> list[float]:
        return [tier.share for tier in self._callers.tiers]

    def _turn_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """What has begun has had its first step: the next ones may begin."""
        now = perf_counter()
        if self._lines:
            each_s = (now - self._turned) / self._begun
            self._each_s += (_NEWEST if self._each_s else 1.0) * (each_s - self._each_s)
        self._turned, self._begun = now, 0
        while self._lines and self._begun < _A_TURN:
            self.begin(loop, *self._lines.next())
        if not self._lines:
            self._each_s = 0.0


def came(scope: Scope) -> float:
    """When a request came, as `perf_counter` counts: before now, if it had to wait for its turn."""
    at: float | None = scope.get(_CAME)
    return perf_counter() if at is None else at


def crowded(scope: Scope) -> bool:
    """Whether a request is to be refused: it would have waited too long to begin."""
    return _CROWDED in scope
