"""Deadlines under load that does not wait: policies of depth against one another, the same arrivals for each."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from strata.loadtest.arrivals import busiest
from strata.loadtest.closed_loop import run_for
from strata.loadtest.connection import Address, LoadError, fetch
from strata.loadtest.family import cpu_seconds
from strata.loadtest.faults import faults
from strata.loadtest.figures import Figure
from strata.loadtest.generator import Order, generate
from strata.loadtest.mix import Sender, senders
from strata.loadtest.options import any_server
from strata.loadtest.outcomes import Requests, Summary, summarize
from strata.loadtest.plots import draw_over_time, draw_policy, over_time
from strata.loadtest.policies import ELASTIC, Policy, parse
from strata.loadtest.processes import ServerProcess
from strata.loadtest.report import Report
from strata.loadtest.rounds import interleave
from strata.loadtest.scenarios import SCENARIOS, Scenario
from strata.loadtest.schedule import Schedule, arrival_times
from strata.loadtest.series import histogram_median, read_series
from strata.loadtest.slo_figures import compare, generator_figures, matrix, short_matrix
from strata.loadtest.texts import digest, load_texts

# Capacity is what the engine carries, not what a tier's deadline lets in; with batches as short as the tightest tier
# makes them for every policy, which is known from `check` on.
_NO_HURRY_MS = 60_000
_CAPACITY_CONNECTIONS = 32
_WARM_UP_S = 3.0
_CAPACITY_S = 10.0
_PATIENCE_S = 15.0  # beyond the longest deadline, for the last answers of a segment
_EMPTY_S = 30.0  # the longest wait for the queue to empty between segments
_REST_S = 0.5
_COST = "strata_cost_error_ratio"
# Open-loop clients are many. What may be refused for want of room is to be decided by deadlines, not by this.
_ROOM = ("--max-concurrent-requests", "16384")


@dataclass(slots=True)
class Trial:
    """One server under one schedule, policy by policy."""

    server: Address
    process: int | None  # its pid; None: somebody else started it
    texts: list[str]
    senders: list[Sender]
    segments: list[Schedule]
    faults: str | None = None  # what happens to its workers meanwhile
    cpu_s: dict[str, float] = field(default_factory=lambda: {"generator": 0.0, "server": 0.0, "wall": 0.0})
    opened: int = 0
    problems: dict[str, str] = field(default_factory=dict)  # by policy and status, the first of each
    tasks: set[str] = field(default_factory=set)  # that the answers' quality is of

    async def segment(self, policy: Policy, number: int) -> Requests:
        """One part of the schedule under one policy, from an empty queue until the last answer."""
        await empty(self.server, self.senders[-1])
        part = self.segments[number]
        order = Order(
            self.server,
            [(policy.path(tier), sender.headers, sender.texts) for tier, sender in enumerate(self.senders)],
            self.texts,
            part.times.tolist(),
            part.tiers.tolist(),
            part.texts.tolist(),
            max(sender.deadline_s for sender in self.senders),
            _PATIENCE_S,
        )
        before = cpu_seconds(self.process) if self.process else 0.0
        async with faults(self.faults, self.process):
            run = await generate(order)
        self.cpu_s["server"] += cpu_seconds(self.process) - before if self.process else 0.0
        self.cpu_s["generator"] += run.cpu_s
        self.cpu_s["wall"] += run.took_s
        self.opened += run.opened
        self.tasks |= {trip.task for trip in run.trips if trip.task}
        for status, text in run.problems.items():
            self.problems.setdefault(f"{policy.name}, {status or 'no answer'}", text)
        start = sum(earlier.seconds for earlier in self.segments[:number])
        return Requests.of(part, run.trips, self.senders, start)


async def measure(args: argparse.Namespace, report: Report) -> list[Figure]:
    """The figures of `strata loadtest slo`."""
    scenario = SCENARIOS[args.scenario].with_options(seconds=args.seconds, mean=args.mean, peak=args.peak, cv2=args.cv2)
    if args.faults and args.url:
        raise ValueError("--faults: only of a server that this command starts itself; leave --url out")
    arrival_times(scenario, 1.0, args.trace, np.random.default_rng(args.seed))  # what cannot be drawn is told now
    tiers = args.tiers or scenario.tiers
    mix = senders(tiers, args.mix or scenario.mix)
    texts = load_texts(args.texts)
    out = args.out or Path("runs") / f"slo-{args.scenario}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    out.mkdir(parents=True, exist_ok=True)
    args.json, args.html = args.json or out / "report.json", args.html or out / "report.html"
    report.facts["report"] = str(args.html)
    report.facts["scenario"] = f"{args.scenario}: {scenario.summary}"
    report.facts["texts"] = f"{len(texts)} ({digest(texts)})"
    async with any_server(args, "--tiers", str(tiers), *_ROOM) as server:
        address = server.address
        info = await _info(address, mix[-1])
        report.facts["model"], report.facts["engine"] = info["model_id"], info["engine"]["reason"]
        full = info["layers"]
        policies = parse(args.policies or scenario.policies, info["exits"], len(mix), scenario.min_layers)
        await check(address, policies, mix)
        capacity = args.capacity or await measure_capacity(address, full, texts, mix[-1], report)
        schedule = plan(scenario, capacity, mix, len(texts), args)
        describe(schedule, capacity, mix, report)
        process = server.pid if isinstance(server, ServerProcess) else None
        trial = Trial(address, process, texts, mix, schedule.cut(args.rounds), args.faults)
        found = await interleave(
            {policy.name: partial(trial.segment, policy) for policy in policies},
            args.rounds,
            lambda name, part: report.tell(f"  {name}: {_progress(part, full)}"),
        )
        series = await read_series(address, mix[-1].headers)
        told = [Figure("cost model's error, median of all batches", histogram_median(series, _COST), at_most=0.25)]
        if not args.capacity:
            # A machine that others use may have been another one at the end.
            after = await measure_capacity(address, full, texts, mix[-1], report)
            report.facts["capacity afterwards"] = f"{after:.1f} texts/s ({after / capacity - 1:+.0%})"
    requests = {name: Requests.joined(parts) for name, parts in found.items()}
    return conclude(requests, schedule, policies, trial, scenario, full, report) + told


async def _info(address: Address, sender: Sender) -> Any:
    response = await fetch(address, address.get("/info", sender.headers))
    if response.status != 200:
        raise LoadError(f"/info with the key of tier {sender.tier}: {response.body[:300].decode(errors='replace')}")
    return response.json()


def plan(scenario: Scenario, capacity: float, mix: Sequence[Sender], texts: int, args: argparse.Namespace) -> Schedule:
    """The schedule that every policy gets. Raises ValueError when the scenario cannot be drawn."""
    random = np.random.default_rng(args.seed)
    requests = capacity * sum(sender.requests for sender in mix)
    times = arrival_times(scenario, requests, args.trace, random)
    if len(times) == 0:
        raise ValueError(f"--seconds {scenario.seconds:g}: not one request falls into so short a time")
    return Schedule.draw(scenario.seconds, times, mix, texts, random)


def describe(schedule: Schedule, capacity: float, mix: Sequence[Sender], report: Report) -> None:
    """Say what is offered, in multiples of what full depth can carry."""
    sizes = np.array([sender.texts for sender in mix], float)[schedule.tiers]
    mean, second, tenth = (
        sizes.sum() / schedule.seconds / capacity,
        busiest(schedule.times, 1.0, sizes) / capacity,
        busiest(schedule.times, 0.1, sizes) / capacity,
    )
    report.facts["capacity of full depth"] = f"{capacity:.1f} texts/s"
    report.facts["offered"] = (
        f"{sizes.sum():.0f} texts in {schedule.seconds:g} s: {mean:.2f} x capacity, "
        f"{second:.2f} x in the busiest second, {tenth:.1f} x in the busiest tenth"
    )
    report.facts["mix"] = ", ".join(
        f"{s.tier} {s.share:.0%}{f' by {s.texts}' if s.texts > 1 else ''} within {s.deadline_s * 1e3:g} ms" for s in mix
    )
    report.tell(report.facts["offered"])


async def check(address: Address, policies: Sequence[Policy], mix: Sequence[Sender]) -> None:
    """One request each: a tier the server does not know, or another depth, would make every figure wrong."""
    for policy in policies:
        for tier, sender in enumerate(mix):
            request = address.post(policy.path(tier), {"inputs": "Is this tier known?"}, sender.headers)
            response = await fetch(address, request)
            told = f"{policy.name}, tier {sender.tier}"
            if response.status != 200:
                raise LoadError(f"{told}: status {response.status}: {response.body[:300].decode(errors='replace')}")
            if response.header("x-strata-tier") != sender.tier:
                raise LoadError(
                    f"{told}: the server served it as tier {response.header('x-strata-tier')}; "
                    "start it with the same --tiers file"
                )
            if policy.layers and response.header("x-strata-layers") != str(policy.layers[tier]):
                raise LoadError(f"{told}: the server ran {response.header('x-strata-layers')} layers")


async def measure_capacity(address: Address, full: int, texts: list[str], sender: Sender, report: Report) -> float:
    """Texts a second at full depth: closed loop, single texts, always 32 of them with the server."""
    requests = [
        address.post(f"/embed?layers={full}&budget_ms={_NO_HURRY_MS}", {"inputs": text}, sender.headers)
        for text in texts
    ]
    await run_for(address, requests, _CAPACITY_CONNECTIONS, _WARM_UP_S)
    sample = await run_for(address, requests, _CAPACITY_CONNECTIONS, _CAPACITY_S)
    report.tell(f"capacity of full depth: {sample.rate:.1f} texts/s")
    return sample.rate


async def empty(address: Address, sender: Sender) -> None:
    """Wait until the server's queue is empty, and a little more. Raises LoadError when it never is."""
    deadline = time.perf_counter() + _EMPTY_S
    while True:
        size = (await read_series(address, sender.headers, "te_queue_size"))["te_queue_size"]
        if size == 0:
            await asyncio.sleep(_REST_S)
            return
        if time.perf_counter() > deadline:
            raise LoadError(f"{size:.0f} texts still wait {_EMPTY_S:g} s after the last request")
        await asyncio.sleep(0.1)


def conclude(
    requests: dict[str, Requests],
    schedule: Schedule,
    policies: Sequence[Policy],
    trial: Trial,
    scenario: Scenario,
    full: int,
    report: Report,
) -> list[Figure]:
    """Sum up, make the tables and the pictures; the figures that have bars are returned."""
    tiers = [sender.tier for sender in trial.senders]
    summaries: dict[str, dict[str, Summary]] = {}
    for name, found in requests.items():
        parts = {"all": found, **{tier: found.where(found.tier == i) for i, tier in enumerate(tiers)}}
        summaries[name] = {tier: summarize(part, schedule.seconds, full) for tier, part in parts.items()}
    report.rounds["policies"] = {
        name: {tier: summary.written() for tier, summary in found.items()} for name, found in summaries.items()
    }
    report.rounds["over_time"] = {name: over_time(found, schedule.seconds) for name, found in requests.items()}
    report.tables["Policies and tiers"] = short_matrix(summaries)
    report.wide_tables["All that was counted"] = matrix(summaries)
    report.pictures["All policies over time"] = draw_over_time(requests, schedule.seconds)
    for name, found in requests.items():
        report.pictures[f"{name}, by tier"] = draw_policy(name, found, tiers, schedule.seconds)
    report.facts["quality"] = f"share of the source model's score, of {', '.join(sorted(trial.tasks)) or 'no task'}"
    if trial.problems:
        report.facts["first of each failure"] = json.dumps(trial.problems, ensure_ascii=False)
    figures = generator_figures(list(requests.values()), trial.cpu_s, trial.opened)
    if ELASTIC in summaries:
        fixed = {policy.name: summaries[policy.name] for policy in policies if policy.layers}
        figures = [*compare(summaries[ELASTIC], fixed, f"always-{full}", scenario), *figures]
    return figures


def _progress(part: Requests, full: int) -> str:
    summary = summarize(part, 1.0, full)
    return (
        f"{summary.offered} texts, {1 - summary.missed_share:.1%} in time, {summary.refused_share:.1%} refused, "
        f"p99 {summary.p99_ms:.0f} ms, {summary.depth:.1f} layers"
    )
