"""The next batch: from the head of the queue, as much as pays and makes nobody in it late."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from strata.app.planning.cost import BatchBounds, CostModel, Load
from strata.app.scheduling.ticket import Admitted

_PART = 0.9  # of the time left to a request that a batch it is in may be predicted to take


@dataclass(slots=True, frozen=True)
class Choice:
    """Tickets to run together, as (request, how many of its tickets, layers), and their load."""

    parts: list[tuple[Admitted, int, int]]
    load: Load


def form(candidates: Iterable[tuple[Admitted, int]], bounds: BatchBounds, cost: CostModel, now: float) -> Choice:
    """Fill a batch from (request, layers) pairs in order of due time, up to the first ticket that does not fit.

    A request that failed before goes only by itself, so that it cannot fail another.
    """
    parts: list[tuple[Admitted, int, int]] = []
    load, texts, limit = Load(), 0, bounds.seconds
    for request, layers in candidates:
        if parts and (request.suspect or parts[0][0].suspect):
            break
        count = 0
        for ticket in request.waiting:
            more = load.with_row(len(ticket.tokens), layers)
            seconds = cost.seconds(more)
            left = _PART * (request.deadline - now) if request.deadline > now else inf
            if texts and (more.tokens > bounds.tokens or texts == bounds.texts or seconds > min(limit, left)):
                break
            limit = max(min(limit, left), seconds)  # the first may take longer than any limit
            load, texts, count = more, texts + 1, count + 1
        if count:
            parts.append((request, count, layers))
        if count < len(request.waiting):
            break
    return Choice(parts, load)
