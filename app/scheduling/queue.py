"""The waiting requests by deadline, with what decisions need of them in columns."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from strata.app.scheduling.ladder import Ladders
from strata.app.scheduling.ticket import Admitted, Ticket

Floats = npt.NDArray[np.float64]

RESERVE = 0.1  # share of its time that a request must be predicted to have left at the end
# Share of its time within which an elastic request is to be answered: the rest is for what a burst still brings.
HEADROOM = 0.5


@dataclass(slots=True, frozen=True)
class Columns:
    """The queue in order of due time, a place a request."""

    deadlines: Floats  # inf: none
    limits: Floats  # a little before: until when it must be predicted to be answered, or nobody more is let in
    goals: Floats  # when it should be answered, if that can be had for less depth
    tokens: Floats  # that still wait
    ladders: npt.NDArray[np.intp]

    def inserted(self, at: int, deadline: float, limit: float, goal: float, tokens: int, ladder: int) -> Columns:
        """These columns with one request more."""
        return Columns(
            np.insert(self.deadlines, at, deadline),
            np.insert(self.limits, at, limit),
            np.insert(self.goals, at, goal),
            np.insert(self.tokens, at, tokens),
            np.insert(self.ladders, at, ladder),
        )


class DeadlineQueue:
    """Requests ordered by due time; a request whose caller left, or that is over, is not in it.

    Parallel lists, so that a decision over a thousand requests starts with a few array conversions.
    """

    def __init__(self, ladders: Ladders) -> None:
        self._ladders = ladders
        self.requests: list[Admitted] = []
        self._dues: list[float] = []
        self._deadlines: list[float] = []
        self._limits: list[float] = []
        self._goals: list[float] = []
        self._tokens: list[int] = []
        self._numbers: list[int] = []
        self.texts = 0
        self.tokens = 0
        self._least = 0  # tokens times the fewest layers they may get

    def __bool__(self) -> bool:
        return bool(self.requests)

    @property
    def floor(self) -> float:
        """Mean of the fewest layers that what waits may get, by tokens."""
        return self._least / self.tokens if self.tokens else 0.0

    @staticmethod
    def limit(arrived: float, deadline: float) -> float:
        """Until when a request must be predicted to be answered: what is in reserve does not shrink as it waits."""
        return deadline - RESERVE * (deadline - arrived) if deadline < inf else inf

    @staticmethod
    def goal(arrived: float, deadline: float, exits: tuple[int, ...]) -> float:
        """When an elastic request should be answered: early enough to leave room for what may yet arrive."""
        return arrived + HEADROOM * (deadline - arrived) if len(exits) > 1 else deadline

    def place(self, due: float) -> int:
        """Where a request with this due time goes: after those due at the same time."""
        return bisect_right(self._dues, due)

    def add(self, request: Admitted) -> None:
        """Put a request with its waiting tickets in its place."""
        at = self.place(request.due)
        self.requests.insert(at, request)
        self._dues.insert(at, request.due)
        self._deadlines.insert(at, request.deadline)
        self._limits.insert(at, self.limit(request.arrived, request.deadline))
        self._goals.insert(at, self.goal(request.arrived, request.deadline, request.exits))
        self._tokens.insert(at, request.waiting_tokens)
        self._numbers.insert(at, self._ladders.number(request.exits))
        self.texts += len(request.waiting)
        self.tokens += request.waiting_tokens
        self._least += request.waiting_tokens * request.exits[0]

    def remove(self, request: Admitted) -> bool:
        """Take a request out, wherever it is; whether it was there."""
        at = bisect_left(self._dues, request.due)
        while at < len(self._dues) and self._dues[at] == request.due:  # of those due together the first leave first
            if self.requests[at] is request:
                self._delete(at)
                return True
            at += 1
        return False

    def columns(self) -> Columns:
        """The columns as arrays."""
        return Columns(
            np.array(self._deadlines, np.float64),
            np.array(self._limits, np.float64),
            np.array(self._goals, np.float64),
            np.array(self._tokens, np.float64),
            np.array(self._numbers, np.intp),
        )

    def take(self, chosen: Iterable[tuple[Admitted, int, int]]) -> list[Ticket]:
        """Take the first ``count`` tickets of requests, which get the depth ``layers``: (request, count, layers)."""
        taken: list[Ticket] = []
        for request, count, layers in chosen:
            self.remove(request)
            request.layers = layers
            for _ in range(count):
                ticket = request.waiting.popleft()
                request.waiting_tokens -= len(ticket.tokens)
                taken.append(ticket)
            if request.waiting:
                self.add(request)
        return taken

    def put_back(self, tickets: Iterable[Ticket]) -> None:
        """Put tickets whose batch failed back in front of what their requests still have waiting."""
        for ticket in tickets:
            request = ticket.request
            self.remove(request)
            request.waiting.appendleft(ticket)
            request.waiting_tokens += len(ticket.tokens)
            self.add(request)

    def drain(self) -> list[Admitted]:
        """Take everything out."""
        everything = list(self.requests)
        while self.requests:
            self._delete(len(self.requests) - 1)
        return everything

    def _delete(self, at: int) -> None:
        request = self.requests.pop(at)
        for column in (self._dues, self._deadlines, self._limits, self._goals, self._tokens, self._numbers):
            del column[at]
        self.texts -= len(request.waiting)
        self.tokens -= request.waiting_tokens
        self._least -= request.waiting_tokens * request.exits[0]
