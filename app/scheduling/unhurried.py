"""Work without a deadline: a line for each flow, whose first request is due at the pace of the flow's share.

Start-time fair queueing (Goyal, Vin and Cheng 1997) with the clock of a flow held near the time: who ran on capacity
that nobody wanted does not pay for it later, and who was kept waiting catches up on a moment of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import pairwise
from operator import itemgetter

from strata.app.scheduling.learnt import Flow
from strata.app.scheduling.ticket import Admitted

BEHIND_ALL = 1e12  # a due time of those that are not the first of their line


@dataclass(slots=True)
class _Line:
    """Of one flow, in order of arrival."""

    requests: list[Admitted] = field(default_factory=list)
    due: float | None = None  # of what was dated last,
    token_s: float = 0.0  # and what a token takes at the pace of the flow's share


class Unhurried:
    """``date(request, last)`` sets the portion and the pace of the first of a line, and returns when it is due.

    ``last``: when the portion of its flow before it was due; None where nothing of the flow waited.
    """

    def __init__(self, date: Callable[[Admitted, float | None], float]) -> None:
        self._date = date
        self._lines: dict[Flow, _Line] = {}
        self._joined = 0
        self.texts: Counter[Flow] = Counter()  # that wait in each line

    def __len__(self) -> int:
        """Requests that wait in all lines."""
        return sum(len(line.requests) for line in self._lines.values())

    def __bool__(self) -> bool:
        return bool(self._lines)

    @property
    def several(self) -> bool:
        """Whether more than one flow has a line."""
        return len(self._lines) > 1

    def turns(self, *, firsts: bool) -> Iterator[Admitted]:
        """What waits in all lines, flows in turns by their shares; with the first of each line, or what is behind."""
        lines = [_by_turns(line.requests, firsts) for line in self._lines.values()]
        return map(itemgetter(1), merge(*lines, key=itemgetter(0)))

    def first(self, flow: Flow) -> Admitted | None:
        """Of a flow's line, the one that is due next."""
        line = self._lines.get(flow)
        return line.requests[0] if line else None

    def join(self, request: Admitted) -> None:
        """A request comes; its place in the queue is set."""
        line = self._lines.setdefault(request.flow, _Line())
        line.requests.append(request)
        self._joined += 1
        request.due = BEHIND_ALL + self._joined
        if line.requests[0] is request:
            self.redate(request)

    def come_back(self, request: Admitted) -> Admitted | None:
        """One that may have left is back, and due when it was; who was the first of its line and is no more."""
        line = self._lines.setdefault(request.flow, _Line())
        if request in line.requests:
            return None
        line.requests.insert(0, request)
        return line.requests[1] if len(line.requests) > 1 else None

    def leave(self, request: Admitted) -> None:
        """Nothing of it waits any more."""
        line = self._lines[request.flow]
        line.requests.remove(request)
        if not line.requests:
            del self._lines[request.flow]

    def ran(self, request: Admitted, texts: int) -> None:
        """So many texts of it are run: those that were not due yet count, too."""
        line = self._lines[request.flow]
        early = texts if request.due >= BEHIND_ALL else texts - request.portion
        if early > 0 and line.due is not None:
            line.due += line.token_s * request.waiting_tokens * early / len(request.waiting)

    def undated(self, flow: Flow) -> Admitted | None:
        """The first of a flow's line, if it has become that and has no due time yet."""
        first = self.first(flow)
        return first if first and first.due >= BEHIND_ALL else None

    def undate(self, request: Admitted) -> None:
        """It is not the first of its line any more."""
        request.due = BEHIND_ALL

    def redate(self, request: Admitted) -> None:
        """Set when the next portion of the first of a line is due."""
        line = self._lines[request.flow]
        request.due = line.due = self._date(request, line.due)
        line.token_s = request.token_s

    def count(self, request: Admitted, texts: int) -> None:
        """So many texts of it wait more, or less."""
        self.texts[request.flow] += texts
        if not self.texts[request.flow]:
            del self.texts[request.flow]

    def clear(self) -> None:
        """Nothing waits."""
        self._lines.clear()


def _by_turns(requests: list[Admitted], firsts: bool) -> Iterator[tuple[float, Admitted]]:
    """Of a line (when its turn comes at the pace of the flow's share, request)."""
    first = requests[0]
    turn = first.turn
    if firsts:
        yield turn, first
    for before, request in pairwise(requests):
        turn += first.token_s * before.waiting_tokens
        yield turn, request
