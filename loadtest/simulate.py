"""The scheduler past this machine: many replicas behind a balancer, before computed engines and a virtual clock."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from statistics import median

import numpy as np

from strata.app.callers.tiers_file import read_tiers
from strata.app.planning.plan import Ask, Terms
from strata.app.planning.planner import Planner
from strata.loadtest import arrivals, mix
from strata.loadtest.figures import Figure, percentile
from strata.loadtest.options import served_folder
from strata.loadtest.report import Report
from strata.loadtest.simulation.engine import Speed
from strata.loadtest.simulation.traffic import Call, Replica, simulate
from strata.model_store.bundle.bundle import Bundle

_WORKERS = 2  # of a replica
_MEAN_TOKENS, _SPREAD = 30.0, 0.6  # of a text: median, and standard deviation of the logarithm
_QUEUED = 1000


async def measure(args: argparse.Namespace, report: Report) -> list[Figure]:
    """The figures of `strata loadtest simulate`."""
    speed = Speed()
    random = np.random.default_rng(args.seed)
    manifest = Bundle.open(served_folder(args), checksums=False).manifest
    full = manifest.architecture.layers
    planner = Planner(manifest, manifest.name)
    tiers = {tier.name: tier for tier in read_tiers(mix.TIERS).tiers}
    senders = mix.senders(mix.TIERS, mix.DEFAULT)
    served = [planner.terms(Ask(), tiers[sender.tier]) for sender in senders]
    capacity = _capacity(speed, full)
    rate = args.rate or args.mean * args.replicas * capacity
    report.facts["a replica at full depth"] = f"{capacity:.1f} texts/s"
    report.facts["load"] = f"{rate:.0f} texts/s on {args.replicas} replicas, CV^2 {args.cv2:g}, {args.seconds} s"

    times = arrivals.draw([(0.0, rate), (float(args.seconds), rate)], args.cv2, random)
    who = random.choice(len(senders), len(times), p=[sender.share for sender in senders])
    calls = [Call(float(at), (_length(random),), served[i]) for at, i in zip(times, who, strict=True)]
    report.tell(f"{len(calls)} requests, {rate / capacity / args.replicas:.2f} x capacity")
    began = time.perf_counter()
    shares = {tier.name: tier.share for tier in tiers.values()}
    fleet = await asyncio.to_thread(
        simulate, calls, layers=full, replicas=args.replicas, workers=_WORKERS, shares=shares, seed=args.seed
    )
    report.tell(f"simulated in {time.perf_counter() - began:.0f} s")
    figures = [figure for tier in served for figure in _of_tier(calls, tier)]
    figures.append(Figure("mean quality of the answers in time", _quality(calls)))
    figures.append(Figure("busy", _busy(fleet, args.seconds)))
    return figures + await asyncio.to_thread(_decisions, served[-1], full, random)


def _of_tier(calls: Sequence[Call], terms: Terms) -> list[Figure]:
    own = [call for call in calls if call.terms is terms]
    accepted = [call for call in own if call.outcome not in ("refused", "full")]
    in_time = sum(call.in_time for call in accepted)
    return [
        Figure(f"{terms.tier}: in time, of the accepted", in_time / max(1, len(accepted)), at_least=0.99),
        Figure("  refused, of all", 1 - len(accepted) / max(1, len(own)), at_most=0.01),
        Figure("  p99", 1000 * percentile([call.seconds for call in accepted], 0.99), "ms"),
        Figure("  mean depth", float(np.mean([call.layers for call in accepted if call.layers])), "layers"),
    ]


def _quality(calls: Sequence[Call]) -> float:
    found = [call.terms.quality[call.terms.exits.index(call.layers)] for call in calls if call.in_time]
    return float(np.mean([worth.share for worth in found if worth]))


def _busy(fleet: Sequence[Replica], seconds: float) -> float:
    return sum(replica.pool.busy_s for replica in fleet) / (len(fleet) * _WORKERS * seconds)


def _decisions(terms: Terms, full: int, random: np.random.Generator) -> list[Figure]:
    """What a choice of batch and depths takes, on this machine's clock, with a thousand requests queued."""
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


def _capacity(speed: Speed, layers: int) -> float:
    """Texts a second of a replica at full depth: batches of four texts, as short deadlines make them."""
    mean = _MEAN_TOKENS * float(np.exp(_SPREAD**2 / 2))
    each = mean * (speed.token + speed.token_layer * layers) + (speed.batch + speed.layer * layers) / 4
    return _WORKERS / each
