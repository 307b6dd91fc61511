"""The waiting requests by due time, with what decisions need of them in columns."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from strata.app.scheduling.curves import Curves
from strata.app.scheduling.learnt import Flow
from strata.app.scheduling.ticket import Admitted, Ticket
from strata.app.scheduling.unhurried import BEHIND_ALL, Unhurried

Floats = npt.NDArray[np.float64]


@dataclass(slots=True, frozen=True)
class Columns:
    """Requests in order of due time, a place each."""

    dues: Floats
    deadlines: Floats  # inf: none
    tokens: Floats  # that still wait, and are due then
    texts: Floats
    floors: Floats  # fewest layers
    curves: npt.NDArray[np.intp]  # rows of `Curves`
    kept: Floats  # layers that its tier's share carries: they are not taken for those beyond theirs; 0: none
    within: npt.NDArray[np.bool_]  # let in within its share: goes first when there is not time for all
    later: Floats  # texts of its flow that are due later, where it has no deadline,
    paces: Floats  # and seconds from one to the next

    def __len__(self) -> int:
        return len(self.dues)

    def inserted(
        self, at: int, due: float, deadline: float, tokens: int, texts: int, floor: int, curve: int, kept: float
    ) -> Columns:
        """These columns with one request more."""
        return Columns(
            np.insert(self.dues, at, due),
            np.insert(self.deadlines, at, deadline),
            np.insert(self.tokens, at, tokens),
            np.insert(self.texts, at, texts),
            np.insert(self.floors, at, floor),
            np.insert(self.curves, at, curve),
            np.insert(self.kept, at, kept),
            np.insert(self.within, at, True),
            np.insert(self.later, at, 0.0),
            np.insert(self.paces, at, 0.0),
        )

    def due_by(self, time: float) -> Floats:
        """Texts of each that are due after its place, and by a time."""
        since = (time - self.dues) / np.maximum(self.paces, 1e-9)
        return np.asarray(np.clip(since, 0.0, self.later))

    def within_first(self) -> tuple[Columns, npt.NDArray[np.intp]]:
        """The same with those let in within their share before all others, and the places they had."""
        order = np.argsort(~self.within, kind="stable")
        # Places are told apart by due time: the others' moves behind the last of those that go first.
        last = float(self.dues[-1])
        dues = np.where(self.within, self.dues, self.dues + (last - float(self.dues[0]) + 1.0))
        return (
            Columns(
                dues[order],
                self.deadlines[order],
                self.tokens[order],
                self.texts[order],
                self.floors[order],
                self.curves[order],
                self.kept[order],
                self.within[order],
                self.later[order],
                self.paces[order],
            ),
            order,
        )


# Rows of the queue's array.
_DUE, _DEADLINE, _TOKENS, _TEXTS, _FLOOR, _CURVE, _TIER, _WITHIN, _LATER, _PACE = range(10)


class DeadlineQueue:
    """Requests ordered by due time; a request whose caller left, or that is over, is not in it.

    ``date``: of `Unhurried`, when what has no deadline is due.

    What decisions need of them is kept in one array, so that neither a newcomer nor a decision over a thousand
    requests converts a thousand numbers first. Those at the end are not in it until a decision needs them: on a server
    with time to spare none does.
    """

    def __init__(self, curves: Curves, date: Callable[[Admitted, float | None], float]) -> None:
        self._curves = curves
        self._unhurried = Unhurried(date)
        self.requests: list[Admitted] = []
        self._dues: list[float] = []
        self._table = np.zeros((10, 64))
        self._written = 0  # requests, from the first on, that are in it
        self._tiers: dict[str, int] = {}
        self.departures = 0  # requests that have left it, or part of whose texts have
        self.texts = 0
        self.tokens = 0
        self.flows: Counter[Flow] = Counter()  # texts that wait, of each,
        self.flow_tokens: Counter[Flow] = Counter()  # and tokens

    def __bool__(self) -> bool:
        return bool(self.requests)

    def place(self, due: float) -> int:
        """Where a request with this due time goes: after those due at the same time."""
        return bisect_right(self._dues, due)

    def in_turn(self, layers: Sequence[int] | None = None) -> Iterator[tuple[Admitted, int]]:
        """(Request, layers) in the order in which they go; ``layers`` in the order of `requests`, or each its deepest.

        Flows of work without a deadline take turns by their shares. Those with a deadline go before all of it that is
        not due yet.
        """
        lines, dated = self._unhurried, len(self.requests)
        if lines.several:
            dated = self.place(BEHIND_ALL) if len(lines) < dated else 0
        for at in range(dated):
            request = self.requests[at]
            yield request, request.exits[-1] if layers is None else layers[at]
        if lines.several:
            for request in lines.turns(firsts=not dated):
                yield request, request.exits[-1]

    def add(self, request: Admitted) -> None:
        """Put a request with its waiting tickets in its place."""
        if self._curves.full():
            self.forget_curves()
        if request.deadline == inf:
            self._unhurried.join(request)
        self._insert(request)
        self._line_changed(request)

    def remove(self, request: Admitted) -> bool:
        """Take a request out, wherever it is; whether it was there."""
        found = self._take_out(request)
        if found and request.deadline == inf:
            self._unhurried.leave(request)
            self._line_changed(request)
        return found

    def columns(self, kept: Mapping[str, float]) -> Columns:
        """The columns until the queue changes; ``kept``: layers that tiers keep."""
        count = len(self.requests)
        table = self._first(count)
        layers = np.array([kept.get(tier, 0.0) for tier in self._tiers])
        return Columns(
            table[_DUE],
            table[_DEADLINE],
            table[_TOKENS],
            table[_TEXTS],
            table[_FLOOR],
            table[_CURVE].astype(np.intp),
            layers[table[_TIER].astype(np.intp)] if kept and count else np.zeros(count),
            table[_WITHIN] > 0,
            table[_LATER],
            table[_PACE],
        )

    def due_by(self, time: float) -> tuple[float, float]:
        """(Texts, tokens) that are due by a time, and go before what is due later."""
        table = self._first(self.place(time))
        if not self._unhurried:
            tokens, texts = np.add.reduce(table[_TOKENS : _TEXTS + 1], axis=1).tolist()
            return texts, tokens
        due = table[_TEXTS] + np.clip((time - table[_DUE]) / np.maximum(table[_PACE], 1e-9), 0.0, table[_LATER])
        return float(due.sum()), float((table[_TOKENS] / table[_TEXTS]) @ due)

    def _first(self, count: int) -> Floats:
        """The columns of the first requests."""
        self._make_room(count)
        for at in range(self._written, count):
            self._write(at)
        self._written = max(self._written, count)
        return self._table[:, :count]

    def take(self, chosen: Iterable[tuple[Admitted, int, int]]) -> list[Ticket]:
        """Take the first ``count`` tickets of requests, which get the depth ``layers``: (request, count, layers)."""
        taken: list[Ticket] = []
        touched: list[Admitted] = []
        for request, count, layers in chosen:
            self._take_out(request)
            if request.deadline == inf:
                self._unhurried.ran(request, count)
            request.layers = layers
            taken += request.take(count)
            touched.append(request)
            if not request.waiting and request.deadline == inf:
                self._unhurried.leave(request)
        for request in touched:
            if request.waiting:
                if request is self._unhurried.first(request.flow):
                    self._unhurried.redate(request)
                self._insert(request)
        for request in touched:
            self._line_changed(request)
        return taken

    def put_back(self, tickets: Iterable[Ticket]) -> None:
        """Put tickets back in front of what their requests still have waiting."""
        for ticket in tickets:
            request = ticket.request
            self._take_out(request)
            request.put_back(ticket)
            if request.deadline == inf and (former := self._unhurried.come_back(request)):
                self._take_out(former)
                self._unhurried.undate(former)
                self._insert(former)
            self._insert(request)
            self._line_changed(request)

    def withdraw(self, ticket: Ticket) -> None:
        """Take one ticket out: it was answered meanwhile."""
        request = ticket.request
        listed = self._take_out(request)
        request.withdraw(ticket)
        if listed and request.waiting:
            self._insert(request)
        elif listed and request.deadline == inf:
            self._unhurried.leave(request)
        self._line_changed(request)

    def drain(self) -> list[Admitted]:
        """Take everything out."""
        everything = list(self.requests)
        while self.requests:
            self._delete(len(self.requests) - 1)
        self._unhurried.clear()
        return everything

    def _line_changed(self, request: Admitted) -> None:
        """Of its flow something came or left that has no deadline: the first of the line is due, and all behind it."""
        if request.deadline < inf:
            return
        if first := self._unhurried.undated(request.flow):
            self._take_out(first)
            self._unhurried.redate(first)
            self._insert(first)
        elif (first := self._unhurried.first(request.flow)) and (at := self._find(first)) < self._written:
            self._table[_LATER, at] = self._unhurried.texts[request.flow] - self._table[_TEXTS, at]

    def _find(self, request: Admitted) -> int:
        """Where a request is; past the end if it is not there."""
        at = bisect_left(self._dues, request.due)
        while at < len(self._dues) and self._dues[at] == request.due:  # of those due together the first leave first
            if self.requests[at] is request:
                return at
            at += 1
        return len(self._dues)

    def _insert(self, request: Admitted) -> None:
        at = self.place(request.due)
        self.requests.insert(at, request)
        self._dues.insert(at, request.due)
        self._count(request, 1)
        if at < self._written:
            self._make_room(self._written + 1)
            self._table[:, at + 1 : self._written + 1] = self._table[:, at : self._written]
            self._written += 1
            self._write(at)

    def _take_out(self, request: Admitted) -> bool:
        at = self._find(request)
        if at == len(self._dues):
            return False
        self._delete(at)
        return True

    def _delete(self, at: int) -> None:
        self.departures += 1
        request = self.requests.pop(at)
        del self._dues[at]
        if at < self._written:
            self._written -= 1
            self._table[:, at : self._written] = self._table[:, at + 1 : self._written + 1]
        if not self.requests:
            self._tiers.clear()
        self._count(request, -1)

    def _make_room(self, count: int) -> None:
        while count > self._table.shape[1]:
            self._table = np.concatenate([self._table, np.zeros_like(self._table)], axis=1)

    def _write(self, at: int) -> None:
        request = self.requests[at]
        texts = len(request.waiting)
        now = min(texts, request.portion)
        first = request.deadline == inf and request is self._unhurried.first(request.flow)
        self._table[:, at] = (
            request.due,
            request.deadline,
            request.waiting_tokens * now / texts,
            now,
            request.exits[0],
            self._curves.number(request.exits, request.quality),
            self._tiers.setdefault(request.flow[0], len(self._tiers)),
            request.within,
            self._unhurried.texts[request.flow] - now if first else 0,
            request.pace_s,
        )

    def _count(self, request: Admitted, sign: int) -> None:
        texts = len(request.waiting)
        if request.deadline == inf:
            self._unhurried.count(request, sign * texts)
        self.texts += sign * texts
        self.tokens += sign * request.waiting_tokens
        self.flows[request.flow] += sign * texts
        self.flow_tokens[request.flow] += sign * request.waiting_tokens
        if not self.flows[request.flow]:
            del self.flows[request.flow], self.flow_tokens[request.flow]

    def forget_curves(self) -> None:
        """Keep the curves of what waits, and none of what came before."""
        self._curves.forget_all_but({(r.exits, r.quality) for r in self.requests})
        self._written = 0
