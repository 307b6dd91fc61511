"""Who keeps its depth: tiers whose shares carry it are not made to give way to what is beyond another's share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from strata.app.scheduling.backlog import Backlogs
from strata.app.scheduling.learnt import Flow
from strata.app.scheduling.policy import Policy
from strata.app.scheduling.snapshot import Capacity, Expected, deepest

Waiting = tuple[Mapping[Flow, int], Mapping[Flow, int]]  # texts, and tokens


@dataclass(slots=True)
class _Burst:
    """What would wait of a tier on its own share."""

    tier: str
    share: float  # of all workers
    work: float  # worker-seconds of a text, at the depth that its share carries in the long run
    texts: float
    deadline_s: float


def keep(
    expected: list[Expected], waiting: Waiting, backlogs: Backlogs, policy: Policy, capacity: Capacity, now: float
) -> tuple[dict[str, float], dict[str, float]]:
    """Layers of tiers that their shares carry, in the long run and now, where there is any that is carried less far;
    and texts a second that each share carries, at the depth that carries them in the long run.
    """
    texts, tokens = (_by_tier(counts) for counts in waiting)
    tiers: dict[str, list[Expected]] = {}
    for kind in expected:
        tiers.setdefault(kind.tier, []).append(kind)
    bursts, carried = [], {}
    for tier, kinds in tiers.items():
        share = kinds[0].share * capacity.workers
        hurried = [kind for kind in kinds if kind.deadline_s < inf]
        if not hurried:
            continue
        # What has more time waits longer: by the shortest, all that waits would be a burst.
        deadline_s = sum(kind.part * kind.deadline_s for kind in hurried) / sum(kind.part for kind in hurried)
        work = policy.kept_load * share / max(sum(kind.rates[of] for kind in kinds) for of in (0, 1))
        work = min(work, sum(kind.part * kind.top_work for kind in kinds))
        carried[tier] = share / max(work, 1e-9)
        # A burst is beyond the share before the rates know of it; what the others kept waiting is none, nor is a text.
        usual = max(texts[tier], tokens[tier] / sum(kind.part * kind.text_tokens for kind in kinds))
        bursts.append(_Burst(tier, share, work, max(0.0, min(usual, backlogs.read(tier, now)) - 1), deadline_s))
    kept = {}
    least = {tier: policy.kept_least * max(kind.top for kind in kinds) for tier, kinds in tiers.items()}
    able = [burst for burst in bursts if deepest(tiers[burst.tier], burst.work) >= least[burst.tier]]
    together_s = sum(burst.texts * burst.work for burst in able) / max(sum(burst.share for burst in able), 1e-9)
    for burst in able:
        work, most_s = burst.work, policy.kept_burst * burst.deadline_s
        # Tiers that keep their depth wait for one another: small ones have bursts, and all of them together none.
        if together_s > most_s and burst.texts:
            work = min(work, most_s * burst.share / burst.texts)
        if (layers := deepest(tiers[burst.tier], work)) >= least[burst.tier]:
            kept[burst.tier] = layers
    everybody = len(kept) == len(tiers) and all(kept[kind.tier] >= kind.top for kind in expected)
    return ({} if everybody else kept), carried


def _by_tier(counts: Mapping[Flow, int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for (tier, _), count in counts.items():
        found[tier] += count
    return found
