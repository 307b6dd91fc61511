"""From what is learnt to a snapshot that decisions can be made on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from strata.app.planning.cost import BatchBounds, Load
from strata.app.scheduling.backlog import Backlogs
from strata.app.scheduling.curves import Curves
from strata.app.scheduling.kept import Waiting, keep
from strata.app.scheduling.learnt import Curve, KindKey, Learnt
from strata.app.scheduling.policy import Policy
from strata.app.scheduling.snapshot import Capacity, Expected, Snapshot

_ACTIVE = 0.02  # texts a second from which a tier takes part in sharing the engine
_FRESH_S = 0.01  # for so long rates averaged over seconds stay as they are


@dataclass(slots=True, frozen=True)
class Arriving:
    """What is likely to come, as it was a few milliseconds ago at most: nothing else of a snapshot takes as long."""

    expected: Sequence[Expected]
    kept: Mapping[str, float]
    carried: Mapping[str, float]  # texts a second of each tier by its share, at the depth that carries all of them
    read: float  # when
    flows: int  # that were known
    curves: int  # generation of `Curves`


def take_snapshot(
    learnt: Learnt,
    curves: Curves,
    policy: Policy,
    before: Arriving | None,
    *,
    workers: int,
    idle: int,
    batch_tokens: int,
    batch_texts: int | None,
    running: Iterable[float],
    waiting: Waiting,
    backlogs: Backlogs,
    now: float,
) -> tuple[Snapshot, Arriving]:
    """``workers`` that live; ``running``: when each batch under way is predicted to end. ``waiting``: by flow.

    What was likely to come ``before`` still is, where it is fresh.
    """
    bounds = batch_bounds(learnt, policy, curves.layers, batch_tokens, batch_texts, now)
    left = [until - now for until in running]
    busy = sum(max(0.0, each) for each in left)
    if left and not idle and (soonest := max(left)) < 0:
        busy = -soonest * workers  # all are overdue: as long again, as far as anybody can tell
    busy += bounds.gap_s * max(0, workers - idle)
    capacity = Capacity(learnt.cost.costs, max(1, workers), bounds, busy, learnt.lag(now))
    arriving = before
    if (
        arriving is None
        or not 0 <= now - arriving.read < _FRESH_S
        or (arriving.flows, arriving.curves) != (len(learnt.flows), curves.generation)
    ):
        expected = _expected(learnt, curves, capacity, now)
        kept, carried = keep(expected, waiting, backlogs, policy, capacity, now)
        arriving = Arriving(expected, kept, carried, now, len(learnt.flows), curves.generation)
    return Snapshot(now, capacity, policy, arriving.expected, arriving.kept, learnt.margin("", now)), arriving


def batch_bounds(
    learnt: Learnt, policy: Policy, layers: int, batch_tokens: int, batch_texts: int | None, now: float
) -> BatchBounds:
    """What a batch may be now. ``layers``: of the model."""
    shortest = learnt.usual_shortest(policy.shortest_quantile)
    text_s = learnt.cost.costs.seconds(Load.alike(1, learnt.text_tokens, layers))
    # No less than one text takes: a caller in a hurry must not make everybody's batches run one by one.
    seconds = max(policy.batch_share * shortest, text_s) if shortest < inf else inf
    return BatchBounds(batch_tokens, seconds, batch_texts, learnt.text_tokens, learnt.gap(now), text_s)


def _expected(learnt: Learnt, curves: Curves, capacity: Capacity, now: float) -> list[Expected]:
    """What each tier is likely to send, all its callers together, a place for each kind of request."""
    tiers: dict[str, dict[KindKey, list[float]]] = {}
    newest: dict[tuple[str, KindKey], Curve] = {}
    for (tier, _), flow in learnt.flows.items():
        fast, slow = flow.texts.read(now)
        if fast + slow < _ACTIVE:
            continue
        risen = flow.risen.read(now)
        kinds = tiers.setdefault(tier, {})
        whole = sum(kind.texts for kind in flow.kinds.values())
        for key, kind in flow.kinds.items():
            part = kind.texts / whole
            sums = kinds.setdefault(key, [0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
            sums[0] += part * fast
            sums[1] += part * slow
            sums[2] += part * (fast + slow) * kind.text_tokens
            sums[3] = kind.deadline_s
            sums[4] += part * risen[0]
            sums[5] += part * risen[1]
            newest[tier, key] = kind.curve
    shares = sum(learnt.shares.get(tier, 1.0) for tier in tiers)
    found = []
    for tier, kinds in tiers.items():
        whole = sum(fast + slow for fast, slow, *_ in kinds.values())
        for key, (fast, slow, tokens, deadline_s, *risen_rates) in kinds.items():
            exits, quality = newest[tier, key]
            length = tokens / (fast + slow)
            found.append(
                Expected(
                    tier,
                    learnt.shares.get(tier, 1.0) / shares,
                    (fast + slow) / whole,
                    (fast, slow),
                    length,
                    deadline_s,
                    exits[0],
                    exits[-1],
                    curves.number(exits, quality),
                    capacity.costs.row(length, 1.0, exits[0], capacity.bounds),
                    capacity.costs.row(length, 1.0, exits[-1], capacity.bounds),
                    (risen_rates[0], risen_rates[1]),
                )
            )
    return found
