"""Forecasts: how long an answer will take, as pure functions of a snapshot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from strata.app.planning.cost import BatchBounds, Costs, Load
from strata.app.planning.plan import Terms


def alone(
    lengths: Sequence[int],
    layers: int,
    costs: Costs,
    workers: int,
    *,
    bounds: BatchBounds | None,
    least_split_tokens: int,
    busy: bool,
) -> float:
    """Seconds until texts of these token lengths are run at a depth, with nothing else to do.

    ``bounds``: of a batch; None for one text, which is a batch whatever its size. ``busy``: a worker has a batch in
    hand, beside which others take longer than alone.
    """
    texts, tokens = len(lengths), sum(lengths)
    every, shared = _parts(lengths, layers, costs)
    batches = _batches(texts, tokens, shared, bounds, every) if bounds else 1
    parts = min(workers, texts, max(math.ceil(tokens / least_split_tokens), batches))
    batches = max(batches, parts)
    work = shared + batches * every
    if parts <= 1:
        return work if busy or workers == 1 else work * costs.alone
    # The last of the batches leave workers without one.
    rest = (1 - 1 / parts) * work / batches if batches > parts else 0.0
    return max(work / parts + rest, costs.seconds(Load.alike(1, max(lengths), layers)))


def batches(lengths: Sequence[int], layers: int, costs: Costs, bounds: BatchBounds) -> int:
    """Batches that texts of these token lengths make at a depth."""
    every, shared = _parts(lengths, layers, costs)
    return _batches(len(lengths), sum(lengths), shared, bounds, every)


def _parts(lengths: Sequence[int], layers: int, costs: Costs) -> tuple[float, float]:
    """Seconds that every batch costs, and those of the texts besides."""
    texts, tokens = len(lengths), sum(lengths)
    load = Load(layers, texts, tokens, texts * layers, tokens * layers, sum(n * n for n in lengths) * layers)
    every = costs.seconds(Load(layers))
    return every, costs.seconds(load) - every


def _batches(texts: int, tokens: int, seconds: float, bounds: BatchBounds, every: float) -> int:
    """Batches that texts alike make, which take so many seconds besides what every batch costs."""
    fit = min(bounds.tokens * texts / tokens, texts)
    if seconds > 0:
        fit = min(fit, (bounds.seconds - every) * texts / seconds)
    if bounds.texts is not None:
        fit = min(fit, bounds.texts)
    return math.ceil(texts / max(1, math.floor(fit)))


def deepest_in_time(terms: Terms, slack_s: float, lag_s: float, doubt: float, seconds: Callable[[int], float]) -> int:
    """The deepest exit that is in time with nothing else to do, a doubt in the prediction counted; else the floor.

    ``seconds`` foretells a depth.
    """
    if slack_s == math.inf:
        return terms.exits[-1]
    return next(
        (layers for layers in reversed(terms.exits) if (1 + doubt) * seconds(layers) <= slack_s - lag_s),
        terms.exits[0],
    )
