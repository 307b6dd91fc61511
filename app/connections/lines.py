"""A fair queue of requests: a line for each caller, and turns by the shares of tiers, however much each sends."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Place(NamedTuple):
    """Who waits in a line: one of the callers of a tier, and the tier's share."""

    tier: str
    caller: str
    share: float


@dataclass(slots=True)
class _Line(Generic[T]):
    place: Place
    waiting: deque[T] = field(default_factory=deque)


class Lines(Generic[T]):
    """Start-time fair queueing (Goyal, Vin and Cheng 1996), a turn being what is shared.

    The callers of a tier split its share between those that wait. Within a line the first to come goes first.
    """

    def __init__(self) -> None:
        self._lines: dict[Place, _Line[T]] = {}  # those in which somebody waits
        self._callers: Counter[str] = Counter()  # by tier: how many of its callers wait
        self._shares: dict[str, float] = {}  # by tier, of those that wait
        self._clock = 0.0  # virtual time: the start of the turn taken last
        self._order: list[tuple[float, int, _Line[T]]] = []  # a heap of lines by the virtual start of their next turn
        self._finish: dict[Place, float] = {}  # virtual time at which a line's last turn was over
        self._number = count()

    def __bool__(self) -> bool:
        return bool(self._lines)

    def turns(self, place: Place) -> float:
        """How many turns are taken before the turn of one who joins a line now, if the same lines go on waiting."""
        line = self._lines.get(place)
        before, callers = (len(line.waiting), 0) if line else (0, 1)
        callers += self._callers[place.tier]
        shares = sum(self._shares.values()) + (0.0 if place.tier in self._shares else place.share)
        return (before + 1) * callers * shares / place.share

    def join(self, place: Place, who: T) -> None:
        """Go to the end of a line."""
        line = self._lines.get(place)
        if line is None:
            line = self._lines[place] = _Line(place)
            self._callers[place.tier] += 1
            self._shares[place.tier] = place.share
            self._push(line)
        line.waiting.append(who)

    def next(self) -> T:
        """Who goes next; somebody must wait."""
        self._clock, _, line = heappop(self._order)
        place = line.place
        self._finish[place] = self._clock + self._callers[place.tier] / place.share
        who = line.waiting.popleft()
        if line.waiting:
            self._push(line)
        else:
            del self._lines[place]
            self._callers[place.tier] -= 1
            if not self._callers[place.tier]:
                del self._callers[place.tier], self._shares[place.tier]
            if not self._lines:
                self._finish.clear()
        return who

    def _push(self, line: _Line[T]) -> None:
        start = max(self._clock, self._finish.get(line.place, 0.0))
        heappush(self._order, (start, next(self._number), line))
