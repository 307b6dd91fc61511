"""The next batch: from the head of the queue, as much as pays and makes nobody in it late."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from strata.app.planning.cost import BatchBounds, Costs, Load
from strata.app.scheduling.policy import Policy
from strata.app.scheduling.ticket import Admitted


@dataclass(slots=True)
class Choice:
    """Tickets to run together, as (request, how many of its tickets, layers), and their load."""

    parts: list[tuple[Admitted, int, int]]
    load: Load


def form(
    candidates: Iterable[tuple[Admitted, int]], bounds: BatchBounds, costs: Costs, now: float, policy: Policy
) -> Choice:
    """Fill a batch from (request, layers) pairs in order, with all that fits.

    A part of the time left to each request may be taken. What does not fit is passed over where others do: where a
    batch costs much whatever is in it, a request with little time left would else run by itself, and then the next.
    What was passed over has the time it needs afterwards, or would not have had it anyway. A request that failed before
    goes only by itself, so that it cannot fail another.
    """
    parts: list[tuple[Admitted, int, int]] = []
    load, limit, took, passed = Load(), bounds.seconds, 0.0, 0
    most_texts = inf if bounds.texts is None else bounds.texts
    for request, layers in candidates:
        if parts and (request.suspect or parts[0][0].suspect):
            break
        count = 0
        left = policy.batch_part * (request.deadline - now) if now < request.deadline < inf else inf
        waiting = request.waiting
        whole = load.with_texts(len(waiting), request.waiting_tokens, request.waiting_squares, layers)
        seconds = costs.seconds(whole)
        fits = whole.tokens <= bounds.tokens and whole.texts <= most_texts and seconds <= min(limit, left)
        if fits:  # each of its texts would be found to fit, one after another
            load, took, count, limit = whole, seconds, len(waiting), min(limit, left)
        for ticket in () if fits else waiting:
            more = load.with_row(len(ticket.tokens), layers)
            seconds = costs.seconds(more)
            if load.texts and (more.tokens > bounds.tokens or load.texts == bounds.texts or seconds > min(limit, left)):
                break
            limit = max(min(limit, left), seconds)  # the first may take longer than any limit
            load, took, count = more, seconds, count + 1
        if count:
            parts.append((request, count, layers))
        if count < len(waiting):
            passed += 1
            if load.texts == bounds.texts or passed > policy.most_passed:
                break
            ticket = waiting[count]
            after = left - costs.seconds(Load().with_row(len(ticket.tokens), layers))
            if after >= took:
                limit = min(limit, after)
            limit = min(limit, 2 * (costs.batch + costs.layer * load.layers))  # more is no gain for those behind
            if took >= limit:
                break
    return Choice(parts, load)
