"""From what is learnt to a snapshot that decisions can be made on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from strata.app.planning.cost import BatchBounds, Load
from strata.app.scheduling.curves import Curves
from strata.app.scheduling.learnt import Flow, Learnt
from strata.app.scheduling.policy import Policy
from strata.app.scheduling.snapshot import Capacity, Expected, Snapshot

_ACTIVE = 0.02  # texts a second from which a tier takes part in sharing the engine
_FRESH_S = 0.01  # for so long rates averaged over seconds stay as they are
Waiting = tuple[Mapping[Flow, int], Mapping[Flow, int]]  # texts, and tokens


@dataclass(slots=True, frozen=True)
class Arriving:
    """What is likely to come, as it was a few milliseconds ago at most: nothing else of a snapshot takes as long."""

    expected: Sequence[Expected]
    kept: Mapping[str, float]
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
    now: float,
) -> tuple[Snapshot, Arriving]:
    """``workers`` that live; ``running``: when each batch under way is predicted to end. ``waiting``: by flow.

    What was likely to come ``before`` still is, where it is fresh.
    """
    costs = learnt.cost.costs
    shortest = learnt.usual_shortest(policy.shortest_quantile)
    seconds = inf
    if shortest < inf:
        # No less than one text takes: a caller in a hurry must not make everybody's batches run one by one.
        seconds = max(policy.batch_share * shortest, costs.seconds(Load.alike(1, learnt.text_tokens, curves.layers)))
    bounds = BatchBounds(batch_tokens, seconds, batch_texts, learnt.text_tokens, learnt.gap(now))
    busy = sum(max(0.0, until - now) for until in running) + bounds.gap_s * max(0, workers - idle)
    capacity = Capacity(costs, max(1, workers), bounds, busy, learnt.lag(now))
    arriving = before
    if (
        arriving is None
        or not 0 <= now - arriving.read < _FRESH_S
        or (arriving.flows, arriving.curves) != (len(learnt.flows), curves.generation)
    ):
        expected = _expected(learnt, curves, capacity, now)
        kept = _kept(expected, waiting, policy, capacity)
        arriving = Arriving(expected, kept, now, len(learnt.flows), curves.generation)
    return Snapshot(now, capacity, policy, arriving.expected, arriving.kept, learnt.margin("", now)), arriving


def _expected(learnt: Learnt, curves: Curves, capacity: Capacity, now: float) -> list[Expected]:
    """What each tier is likely to send, all its callers together."""
    tiers: dict[str, list[float]] = {}
    newest: dict[str, tuple[float, tuple[tuple[int, ...], tuple[float | None, ...]]]] = {}
    for (tier, _), flow in learnt.flows.items():
        fast, slow = flow.texts.read(now)
        if fast + slow < _ACTIVE:
            continue
        sums = tiers.setdefault(tier, [0.0, 0.0, 0.0])
        sums[0] += fast
        sums[1] += slow
        sums[2] += (fast + slow) * flow.text_tokens
        newest[tier] = (flow.deadline_s, flow.curve)
    whole = sum(learnt.shares.get(tier, 1.0) for tier in tiers)
    found = []
    for tier, (fast, slow, tokens) in tiers.items():
        deadline_s, (exits, quality) = newest[tier]
        length = tokens / (fast + slow)
        found.append(
            Expected(
                tier,
                learnt.shares.get(tier, 1.0) / whole,
                (fast, slow),
                length,
                deadline_s,
                exits[0],
                exits[-1],
                curves.number(exits, quality),
                capacity.costs.row(length, 1.0, exits[0], capacity.bounds),
                capacity.costs.row(length, 1.0, exits[-1], capacity.bounds),
            )
        )
    return found


def _kept(expected: list[Expected], waiting: Waiting, policy: Policy, capacity: Capacity) -> dict[str, float]:
    """Layers of tiers that their shares carry, in the long run and now, where there is any that is carried less far."""
    texts, tokens = (_by_tier(counts) for counts in waiting)
    kept = {}
    for kind in expected:
        share = kind.share * capacity.workers
        work = policy.kept_load * share / max(kind.rates)
        if held := texts[kind.tier]:  # a burst is beyond the share before the rates know of it
            usual = max(held, tokens[kind.tier] / kind.text_tokens)
            work = min(work, policy.kept_burst * kind.deadline_s * share / usual)
        layers = kind.deepest(work)
        if kind.deadline_s < inf and layers >= policy.kept_least * kind.top:
            kept[kind.tier] = layers
    everybody = len(kept) == len(expected) and all(kept[kind.tier] >= kind.top for kind in expected)
    return {} if everybody else kept


def _by_tier(counts: Mapping[Flow, int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for (tier, _), count in counts.items():
        found[tier] += count
    return found
