"""Requests begin a few a turn of the loop, so that answers go out between them, and each tier has its share of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

from starlette.types import Scope

from strata.app.callers.callers import Caller, Callers, KeyRefused
from strata.app.connections.lines import Lines, Place

_PER_TURN = 8  # requests that begin in one turn of the loop: about 1 ms
_NEVER_WAIT = ("/health", "/ready")  # also behind --root-path, and with a slash at the end
# Share of its deadline that a request may wait to begin. What would wait longer is refused at once, so that requests
# that do begin have time left (controlled delay: Nichols and Jacobson 2012).
_MOST_WAIT = 0.3
_NEWEST = 0.1  # weight of the newest turn in the mean of how long a request takes
_CAME, _CROWDED = "strata.came", "strata.crowded"  # keys in a request's scope


class Intake:
    """Where requests wait whose heads have been read.

    In a flood hundreds of connections have a request ready in one turn of the loop. If all of them began, the turn
    would take up to a quarter of a second, and answers that are ready would wait as long. If they began in the order
    they come, whoever sends most would be served most, and others would be refused for the time they waited.
    """

    def __init__(self, callers: Callers, deadline_s: Callable[[Scope, Caller], float | None]) -> None:
        """``deadline_s``: the deadline in seconds of a request whose body is not read yet; None: none is known."""
        self._callers = callers
        self._deadline_s = deadline_s
        self._lines: Lines[tuple[Scope, Callable[[], None]]] = Lines()
        self._begun = 0  # requests, in this turn
        self._turn_began = 0.0  # by `perf_counter`
        self._each_s = 0.0  # mean seconds from one request's begin to the next one's; 0 while nobody waits

    def begin(self, loop: asyncio.AbstractEventLoop, scope: Scope, start: Callable[[], None]) -> Caller | None:
        """Call ``start`` in this turn or a later one, and return None; or return the caller of a request to refuse.

        It is to be refused where it would wait too long to begin.
        """
        if not self._begun:
            loop.call_soon(self._turn_over, loop)
            if not self._lines:
                self._turn_began = perf_counter()
        if self._begun < _PER_TURN or scope["path"].rstrip("/").endswith(_NEVER_WAIT):
            self._begun += 1
            start()
            return None
        scope[_CAME] = perf_counter()
        place, caller = self._place(scope)
        if caller is not None and self._lines:
            deadline_s = self._deadline_s(scope, caller)
            if deadline_s is not None and self._lines.turns(place) * self._each_s > _MOST_WAIT * deadline_s:
                scope[_CROWDED] = True
                return caller
        self._lines.join(place, (scope, start))
        return None

    def _place(self, scope: Scope) -> tuple[Place, Caller | None]:
        """The line a request waits in, and its caller, where that is known.

        Requests that only read (not POST) have one line together, with the share of the largest tier: a scrape must not
        wait behind a flood. Requests without a known key have another, with the share of the smallest.
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
        """At the end of a turn: what began has had its first step, so the next requests in line begin."""
        now = perf_counter()
        if self._lines:
            each_s = (now - self._turn_began) / self._begun
            self._each_s += (_NEWEST if self._each_s else 1.0) * (each_s - self._each_s)
        self._turn_began, self._begun = now, 0
        while self._lines and self._begun < _PER_TURN:
            self.begin(loop, *self._lines.next())
        if not self._lines:
            self._each_s = 0.0


def came(scope: Scope) -> float:
    """When a request came, by `perf_counter`: before now, if it had to wait for its turn."""
    at: float | None = scope.get(_CAME)
    return perf_counter() if at is None else at


def crowded(scope: Scope) -> bool:
    """Whether a request is to be refused because it would have waited too long to begin."""
    return _CROWDED in scope
