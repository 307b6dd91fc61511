"""Forecasts: how long an answer will take, as pure functions of a snapshot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from strata.app.planning.cost import Costs, Load
from strata.app.planning.plan import Terms


def alone(
    lengths: Sequence[int],
    layers: int,
    costs: Costs,
    workers: int,
    *,
    batch_tokens: int,
    least_split_tokens: int,
    busy: bool,
) -> float:
    """Seconds until texts of these token lengths are run at a depth, with nothing else to do.

    ``busy``: a worker has a batch in hand, beside which others take longer than alone.
    """
    load = Load(
        layers,
        len(lengths),
        tokens := sum(lengths),
        len(lengths) * layers,
        tokens * layers,
        sum(n * n for n in lengths) * layers,
    )
    batches = max(1, math.ceil(tokens / batch_tokens))
    work = costs.seconds(load) + (batches - 1) * costs.seconds(Load(layers))  # what every batch costs
    parts = min(workers, len(lengths), math.ceil(tokens / least_split_tokens))
    if parts <= 1:
        return work if busy or workers == 1 else work * costs.alone
    return max(work / parts, costs.seconds(Load.alike(1, max(lengths), layers)))


def deepest_in_time(terms: Terms, slack_s: float, lag_s: float, spread: float, seconds: Callable[[int], float]) -> int:
    """The deepest exit that is in time with nothing else to do, the prediction's error counted; else the floor.

    ``seconds`` foretells a depth.
    """
    if slack_s == math.inf:
        return terms.exits[-1]
    return next(
        (layers for layers in reversed(terms.exits) if (1 + spread) * seconds(layers) <= slack_s - lag_s),
        terms.exits[0],
    )
