"""Requests begin a few a turn of the loop, so that answers go out between them, and each tier has its share of them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from time import perf_counter

from starlette.types import Scope

from strata.app.callers.callers import Callers, KeyRefused
from strata.app.lines import Lines, Place

_A_TURN = 8  # requests: about 1 ms
_AT_ONCE = frozenset({"/health", "/ready"})
# Of the time that a request may take, the most that it may wait to begin: what would wait longer is refused at once, so
# that those that are heard have time left (controlled delay: Nichols and Jacobson 2012).
_PATIENCE = 0.3
_IN_QUERY = re.compile(rb"(?:^|&)budget_ms=([^&]+)")
_NUMBER = re.compile(rb"[0-9]{1,7}(\.[0-9]{1,6})?")
_HEADER = b"x-strata-budget-ms"
_CAME, _CROWDED = "strata.came", "strata.crowded"


class Intake:
    """Where requests wait whose heads have been read.

    In a flood hundreds of connections have something to say in one turn of the loop. Were all of them heard at once,
    the turn would take up to a quarter of a second, and so long would answers wait that are ready. Were they heard in
    the order they come, who sends most would be heard most, and others refused for the time they waited.
    """

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self._lines: Lines[tuple[Scope, Callable[[], None]]] = Lines()
        self._begun = 0  # in this turn

    def begin(self, loop: asyncio.AbstractEventLoop, scope: Scope, start: Callable[[], None]) -> None:
        """Let a request begin, in this turn or a later one."""
        if not self._begun:
            loop.call_soon(self._turn_over, loop)
        if self._begun < _A_TURN or scope["path"] in _AT_ONCE:
            self._begun += 1
            start()
            return
        scope[_CAME] = perf_counter()
        place, deadline_s = self._place(scope)
        if deadline_s is not None and self._lines.waited(place) > _PATIENCE * deadline_s:
            scope[_CROWDED] = True
            start()
        else:
            self._lines.join(place, (scope, start))

    def _place(self, scope: Scope) -> tuple[Place, float | None]:
        """The line of who asks, and its deadline, as far as both are known before the body is read.

        Those with no key that is known have one line together, and so have those who only read.
        """
        least = min((tier.share for tier in self._callers.tiers), default=1.0)
        if scope["method"] != "POST":
            return Place("", "reading", least), None
        try:
            caller = self._callers.caller(scope["headers"])
        except KeyRefused:
            return Place("", "unknown", least), None
        deadline_s = _budget_s(scope) or caller.own.deadline_s
        return Place(caller.own.name, caller.key or "", caller.own.share), deadline_s

    def _turn_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """What has begun has had its first step: the next ones may begin."""
        self._begun = 0
        while self._lines and self._begun < _A_TURN:
            self.begin(loop, *self._lines.next())


def _budget_s(scope: Scope) -> float | None:
    """The budget in the query or a header, where it is one."""
    query = _IN_QUERY.search(scope["query_string"])
    text = query[1] if query else next((value for name, value in scope["headers"] if name == _HEADER), b"")
    return float(text) / 1000 if _NUMBER.fullmatch(text) else None


def came(scope: Scope) -> float:
    """When a request came, as `perf_counter` counts: before now, if it had to wait for its turn."""
    at: float | None = scope.get(_CAME)
    return perf_counter() if at is None else at


def crowded(scope: Scope) -> bool:
    """Whether a request is to be refused: it would have waited too long to begin."""
    return _CROWDED in scope
