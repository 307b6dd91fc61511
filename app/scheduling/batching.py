"""The next batch: from the head of the queue, as much as pays and makes nobody in it late."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from strata.app.planning.cost import BatchBounds, Costs, Load
from strata.app.scheduling.ticket import Admitted


@dataclass(slots=True)
class Choice:
    """Tickets to run together, as (request, how many of its tickets, layers), and their load."""

    parts: list[tuple[Admitted, int, int]]
    load: Load


def form(
    candidates: Iterable[tuple[Admitted, int]], bounds: BatchBounds, costs: Costs, now: float, part: float
) -> Choice:
    """Fill a batch from (request, layers) pairs in order, up to the first ticket that does not fit.

    ``part`` of the time left to each request may be taken. A request that failed before goes only by itself, so that
    it cannot fail another.
    """
    parts: list[tuple[Admitted, int, int]] = []
    load, limit = Load(), bounds.seconds
    for request, layers in candidates:
        if parts and (request.suspect or parts[0][0].suspect):
            break
        count = 0
        left = part * (request.deadline - now) if now < request.deadline < inf else inf
        for ticket in request.waiting:
            more = load.with_row(len(ticket.tokens), layers)
            seconds = costs.seconds(more)
            if load.texts and (more.tokens > bounds.tokens or load.texts == bounds.texts or seconds > min(limit, left)):
                break
            limit = max(min(limit, left), seconds)  # the first may take longer than any limit
            load, count = more, count + 1
        if count:
            parts.append((request, count, layers))
        if count < len(request.waiting):
            break
    return Choice(parts, load)
