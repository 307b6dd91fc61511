"""Forecasts: how long an answer will take, as pure functions of a moment."""

from __future__ import annotations

import math
from collections.abc import Sequence

from strata.app.planning.cost import Costs, Load
from strata.app.planning.plan import Terms
from strata.app.scheduling.snapshot import Engine


def alone(lengths: Sequence[int], layers: int, costs: Costs, workers: int, batch_tokens: int) -> float:
    """Seconds until texts of these token lengths are run at a depth, with nothing else to do."""
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
    if batches == 1 and len(lengths) == 1:
        return work
    longest = max(lengths)
    return max(work / min(workers, len(lengths)), costs.seconds(Load.alike(1, longest, layers)))


def deepest_in_time(terms: Terms, lengths: Sequence[int], slack_s: float, engine: Engine, batch_tokens: int) -> int:
    """The deepest exit that is in time with nothing else to do, the prediction's error counted; else the floor."""
    if slack_s == math.inf:
        return terms.exits[-1]
    doubt = 1 + engine.costs.spread
    for layers in reversed(terms.exits):
        if doubt * alone(lengths, layers, engine.costs, engine.workers, batch_tokens) <= slack_s - engine.lag_s:
            return layers
    return terms.exits[0]
