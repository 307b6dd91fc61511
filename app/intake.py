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
_AT_ONCE = ("/health", "/ready")  # also behind --root-path, and with a slash at the end
# Of the time that a request may take, the most that it may wait to begin: what would wait longer is refused at once, so
# that those that are heard have time left (controlled delay: Nichols and Jacobson 2012).
_PATIENCE = 0.3
_BUDGET, _TIER = (  # in a query and in a header
    (re.compile(rb"(?:^|&)%b=([^&]+)" % name), b"x-strata-" + name.replace(b"_", b"-"))
    for name in (b"budget_ms", b"tier")
)
_NUMBER = re.compile(rb"[0-9]{1,7}(\.[0-9]{1,6})?")
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
        if self._begun < _A_TURN or scope["path"].rstrip("/").endswith(_AT_ONCE):
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

        Those who only read have one line together, with the share of the largest tier: a scrape must not wait behind a
        flood. Those with no key that is known have another, with that of the smallest.
        """
        shares = [tier.share for tier in self._callers.tiers]
        if scope["method"] != "POST":
            return Place("", "reading", max(shares, default=1.0)), None
        try:
            caller = self._callers.caller(scope["headers"])
        except KeyRefused:
            return Place("", "unknown", min(shares, default=1.0)), None
        budget_ms, asked = _said(scope, *_BUDGET), _said(scope, *_TIER).decode("latin-1")
        if _NUMBER.fullmatch(budget_ms) and float(budget_ms):
            deadline_s: float | None = float(budget_ms) / 1000
        else:
            lower = caller.tiers[caller.rank :]
            deadline_s = next((tier for tier in lower if tier.name == asked), caller.own).deadline_s
        return Place(caller.own.name, caller.key or "", caller.own.share), deadline_s

    def _turn_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """What has begun has had its first step: the next ones may begin."""
        self._begun = 0
        while self._lines and self._begun < _A_TURN:
            self.begin(loop, *self._lines.next())


def _said(scope: Scope, in_query: re.Pattern[bytes], header: bytes) -> bytes:
    """What the query or a header says; nothing: neither does."""
    query = in_query.search(scope["query_string"])
    return query[1] if query else next((value for name, value in scope["headers"] if name == header), b"")


def came(scope: Scope) -> float:
    """When a request came, as `perf_counter` counts: before now, if it had to wait for its turn."""
    at: float | None = scope.get(_CAME)
    return perf_counter() if at is None else at


def crowded(scope: Scope) -> bool:
    """Whether a request is to be refused: it would have waited too long to begin."""
    return _CROWDED in scope
