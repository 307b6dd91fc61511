"""The pace of work without a deadline: that of a server of its flow's own."""

from __future__ import annotations

from math import ceil

from strata.app.planning.cost import BatchBounds, Costs
from strata.app.scheduling import forecast
from strata.app.scheduling.policy import Policy
from strata.app.scheduling.ticket import Admitted


def dated(
    request: Admitted,
    last: float | None,
    part: float,
    workers: int,
    longest_s: float,
    costs: Costs,
    bounds: BatchBounds,
    policy: Policy,
    now: float,
) -> float:
    """When the next portion of the first of a line is due: as much as a batch takes, at the pace of its flow's own
    server, and spread over its patience. Sets that portion and its pace.

    ``last``: as of `Unhurried`. ``part``: of the engine, that is the flow's. ``longest_s``: of the deadlines that come.
    """
    texts, tokens, layers = len(request.waiting), request.waiting_tokens, request.exits[-1]
    work = costs.row(tokens, texts, layers, bounds)
    own_s = work / (min(part, policy.unhurried_share) * workers)
    spread_s = max(0.0, request.arrived + policy.patience_s - now)
    request.pace_s = (own_s + spread_s) / texts
    request.token_s = work / (part * workers * tokens)
    if texts > 1:
        lengths = [len(ticket.tokens) for ticket in request.waiting]
        request.portion = ceil(texts / forecast.batches(lengths, layers, costs, bounds))
    else:
        request.portion = 1
    # Who ran on what nobody wanted lets those pass who come with a deadline, and owes no more than that.
    begins = now if last is None else min(max(last, now - policy.unhurried_lag_s), now + longest_s)
    request.turn = begins + request.portion * request.token_s * tokens / texts
    return begins + request.portion * request.pace_s
