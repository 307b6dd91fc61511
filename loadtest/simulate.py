"""The scheduler past this machine: the scenarios of `slo` before computed engines and a virtual clock."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from strata.app.callers.tier import Tier
from strata.app.callers.tiers_file import read_tiers
from strata.app.planning.plan import Ask, Terms
from strata.app.planning.planner import Planner
from strata.loadtest import policies
from strata.loadtest.figures import Figure
from strata.loadtest.mix import Sender, senders
from strata.loadtest.options import served_folder
from strata.loadtest.outcomes import TIMED_OUT, Requests, summarize
from strata.loadtest.policies import ELASTIC, Policy
from strata.loadtest.report import Report
from strata.loadtest.scenarios import SCENARIOS
from strata.loadtest.schedule import Schedule
from strata.loadtest.simulation.engine import Speed
from strata.loadtest.simulation.traffic import Call, Replica, simulate
from strata.loadtest.slo import describe, plan
from strata.loadtest.slo_figures import compare, short_matrix
from strata.model_store.bundle.bundle import Bundle

_WORKERS = 2  # of a replica
_MEAN_TOKENS, _SPREAD = 30.0, 0.6  # of a text: median, and standard deviation of the logarithm
_QUEUED = 1000
_STATUS = {"answered": 200, "refused": 429, "full": 429, "unavailable": 503, "expired": TIMED_OUT, "failed": 500}


async def measure(args: argparse.Namespace, report: Report) -> list[Figure]:
    """The figures of `strata loadtest simulate`."""
    scenario = SCENARIOS[args.scenario].with_options(seconds=args.seconds, mean=args.mean, peak=args.peak, cv2=args.cv2)
    manifest = Bundle.open(served_folder(args), checksums=False).manifest
    full = manifest.architecture.layers
    planner = Planner(manifest, manifest.name)
    speed = Speed()
    who = senders(scenario.tiers, args.mix or scenario.mix)
    capacity = args.replicas * capacity_of(speed, full)
    schedule = plan(scenario, capacity, who, 1, args)
    describe(schedule, capacity, who, report)
    tiers = {tier.name: tier for tier in read_tiers(scenario.tiers).tiers}
    shares = {tier.name: tier.share for tier in tiers.values()}
    chosen = policies.parse(args.policies or scenario.policies, manifest.exits, len(who), scenario.min_layers)
    front = replace(speed, steal=1 / _WORKERS) if args.front_ms else speed
    found: dict[str, list[Call]] = {}
    fleets: dict[str, list[Replica]] = {}
    for policy in chosen:
        calls = found[policy.name] = calls_of(schedule, who, tiers, planner, policy, args.seed)
        began = time.perf_counter()
        fleets[policy.name] = await asyncio.to_thread(
            simulate,
            calls,
            layers=full,
            replicas=args.replicas,
            workers=_WORKERS,
            shares=shares,
            seed=args.seed,
            front_s=args.front_ms / 1e3,
            speed=speed,
            real_speed=front,
        )
        report.tell(f"{policy.name}: simulated in {time.perf_counter() - began:.1f} s")
    summaries = {}
    for name, calls in found.items():
        requests = requests_of(calls, schedule, who)
        parts = {"all": requests, **{s.tier: requests.where(requests.tier == i) for i, s in enumerate(who)}}
        summaries[name] = {tier: summarize(part, schedule.seconds, full) for tier, part in parts.items()}
    report.rounds["policies"] = {
        name: {tier: summary.written() for tier, summary in of_policy.items()} for name, of_policy in summaries.items()
    }
    report.tables["Policies and tiers"] = short_matrix(summaries)
    figures = []
    if ELASTIC in found:
        fixed = {policy.name: summaries[policy.name] for policy in chosen if policy.layers}
        figures = compare(summaries[ELASTIC], fixed, f"always-{full}", scenario)
        figures.append(Figure("busy", _busy(fleets[ELASTIC], schedule.seconds)))
        if args.oracle:
            most = await asyncio.to_thread(_most, found[ELASTIC], speed, args.replicas)
            figures.append(Figure("quality, share of an oracle's", quality(found[ELASTIC]) / most, at_least=0.98))
    terms = planner.terms(Ask(), tiers[who[-1].tier])
    return figures + await asyncio.to_thread(_decisions, terms, full, np.random.default_rng(args.seed))


def calls_of(
    schedule: Schedule,
    who: Sequence[Sender],
    tiers: dict[str, Tier],
    planner: Planner,
    policy: Policy,
    seed: int,
) -> list[Call]:
    """The requests of a schedule under a policy; lengths of texts are drawn."""
    random = np.random.default_rng(seed)
    if policy.layers is None:
        asks = [Ask(min_layers=policy.min_layers)] * len(who)
    else:
        asks = [Ask(layers=layers) for layers in policy.layers]
    served = [planner.terms(ask, tiers[sender.tier]) for ask, sender in zip(asks, who, strict=True)]
    return [
        Call(float(at), tuple(_length(random) for _ in range(who[tier].texts)), served[tier], caller=who[tier].key)
        for at, tier in zip(schedule.times, schedule.tiers.tolist(), strict=True)
    ]


def requests_of(calls: Sequence[Call], schedule: Schedule, who: Sequence[Sender]) -> Requests:
    """What became of the calls, as the load generator would have seen it."""
    answered = np.array([call.outcome == "answered" for call in calls])
    return Requests(
        due=schedule.times,
        lag=np.zeros(len(calls)),
        latency=np.array([call.seconds for call in calls]),
        tier=schedule.tiers,
        deadline=np.array([sender.deadline_s for sender in who])[schedule.tiers],
        status=np.array([_STATUS[call.outcome] for call in calls]),
        layers=np.where(answered, [call.layers for call in calls], np.nan),
        quality=np.where(answered, [_worth(call) for call in calls], np.nan),
    )


def quality(calls: Sequence[Call]) -> float:
    """Summed over the answers in time."""
    return sum(_worth(call) for call in calls if call.in_time)


def _worth(call: Call) -> float:
    if call.outcome != "answered":
        return float("nan")
    worth = call.terms.quality[call.terms.exits.index(call.layers)]
    return worth.share if worth else float("nan")


def _most(calls: Sequence[Call], speed: Speed, replicas: int) -> float:
    from strata.loadtest.simulation.oracle import most_quality

    return most_quality(calls, speed, replicas * _WORKERS)


def _busy(fleet: Sequence[Replica], seconds: float) -> float:
    return sum(replica.pool.busy_s for replica in fleet) / (len(fleet) * _WORKERS * seconds)


def _decisions(terms: Terms, full: int, random: np.random.Generator) -> list[Figure]:
    """What a choice of batch and depths takes, on this machine's clock, with a thousand requests queued."""
    terms = replace(terms, deadline_s=None)
    calls = [Call(0.0, (_length(random),), terms) for _ in range(_QUEUED * 6 // 5)]
    (replica,) = simulate(calls, layers=full, workers=_WORKERS)
    times = replica.metrics.decisions[: len(replica.metrics.decisions) // 6]  # while most of them wait
    batch = replica.pool.busy_s / len(replica.metrics.decisions)
    return [
        Figure(f"a decision with {_QUEUED} to {_QUEUED * 6 // 5} requests queued", 1000 * median(times), "ms"),
        Figure("  share of a batch's time", median(times) / batch, at_most=0.02),
    ]


def _length(random: np.random.Generator) -> int:
    return int(np.clip(random.lognormal(np.log(_MEAN_TOKENS), _SPREAD), 4, 400))


def capacity_of(speed: Speed, layers: int) -> float:
    """Texts a second of a replica at full depth: batches of four texts, as short deadlines make them."""
    mean = _MEAN_TOKENS * float(np.exp(_SPREAD**2 / 2))
    each = mean * (speed.token + speed.token_layer * layers) + (speed.batch + speed.layer * layers) / 4
    return _WORKERS / each
