"""Minutes of everything at once, and then what is left of it: memory, descriptors, tasks, texts that still wait."""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from strata.loadtest.connection import Address, Connection, LoadError, fetch
from strata.loadtest.family import measure_memory
from strata.loadtest.figures import Figure
from strata.loadtest.mix import DEFAULT, TIERS, Sender, senders
from strata.loadtest.open_loop import run_open
from strata.loadtest.options import own_server
from strata.loadtest.processes import ServerProcess
from strata.loadtest.report import Report
from strata.loadtest.series import read_series
from strata.loadtest.slo import measure_capacity
from strata.loadtest.texts import digest, load_texts, stretch

_SEGMENT_S = 20.0  # of the schedule drawn and sent at a time
_CONNECTIONS = 32
_PATIENCE_S = 30.0
_LOOK_S = 2.0  # between two looks at the memory
_SETTLE_S = 8.0  # after the load: idle connections are closed after 5 s
_FIRST_S = 120.0  # in which buffers and caches grow to their size; of a short run, a quarter
_MANNERS = 0.1  # share of requests that are wrong, and as many that are left before their answer
_LEFT_AFTER_S = (0.0, 0.05)
_GROUPS = (1, 1, 1, 1, 2, 4, 8, 32)  # texts of a request
_AT_REST = (
    "process_open_fds",
    "strata_tasks",
    "strata_requests_in_progress",
    "te_queue_size",
    "strata_worker_restarts_total",
)
# What a request of good manners may be answered with: vectors; that there is no room or no time; that its depth and its
# tier's deadline do not go together (400 on OpenAI's path).
_ANSWERED, _BUSY, _IMPOSSIBLE = 200, (429, 503, 504), (400, 422)
_GOOD = frozenset({_ANSWERED, *_BUSY, *_IMPOSSIBLE})


@dataclass(slots=True)
class Traffic:
    """Draws requests; ``weight`` is the work of one, in texts at full depth."""

    address: Address
    texts: list[str]
    senders: Sequence[Sender]
    exits: Sequence[int]
    dims: Sequence[int]
    random: random.Random
    at: int = 0

    def draw(self) -> tuple[bytes, float]:
        """One request of good manners, and its weight."""
        count, sender = self.random.choice(_GROUPS), self.random.choice(self.senders)
        group = stretch(self.texts, self.at, count)
        if not self.random.randrange(50):
            group[0] = " ".join(stretch(self.texts, self.at, 40))  # as long as the model takes
        self.at += count
        asked: dict[str, object] = {}
        layers = self.exits[-1]
        if self.random.random() < 0.6:
            layers = asked["layers"] = self.random.choice(self.exits)
        elif self.random.random() < 0.5:
            asked["budget_ms"] = self.random.choice((50, 500, 5000))
        if self.random.random() < 0.5:
            asked["dim"] = self.random.choice(self.dims)
        path, field_ = self.random.choice((("/embed", "inputs"), ("/v1/embeddings", "input")))
        body = {field_: group if count > 1 else group[0], **asked}
        return self.address.post(path, body, sender.headers), count * layers / self.exits[-1]

    def wrong(self) -> tuple[bytes, int]:
        """One request that must be refused, without work, and the status it must be refused with."""
        headers = self.senders[0].headers
        post = self.address.post
        return self.random.choice(
            (
                (post("/embed", {"inputs": "a", "layers": 99}, headers), 422),
                (post("/embed", {"inputs": []}, headers), 400),
                (post("/embed", {"inputs": ["a"] * 5000}, headers), 422),
                (post("/embed", {"inputs": "a", "budget_ms": 0.001}, headers), 422),
                (post("/embed", "no object", headers), 422),
                (post("/v1/embeddings", {"input": "x" * 3_000_000}, headers), 413),
                (post("/nowhere", {}, headers), 404),
                (self.address.get("/embed", headers), 405),
            )
        )


@dataclass(slots=True)
class Seen:
    """What came of it so far. Memory as (seconds, megabytes)."""

    good: Counter[int] = field(default_factory=Counter)  # statuses of what was asked with good manners; 0: no answer
    wrong: Counter[bool] = field(default_factory=Counter)  # of the others: whether it was the right refusal
    problems: dict[int, str] = field(default_factory=dict)
    left: int = 0
    memory: list[tuple[float, float]] = field(default_factory=list)


async def measure(args: argparse.Namespace, report: Report) -> list[Figure]:
    """The figures of `strata loadtest soak`."""
    texts = load_texts(args.texts)
    report.facts["texts"] = f"{len(texts)} ({digest(texts)})"
    mix = senders(TIERS, DEFAULT)
    async with own_server(args, "--tiers", str(TIERS)) as server:
        address = server.address
        info = (await fetch(address, address.get("/info", mix[0].headers))).json()
        full = info["layers"]
        capacity = await measure_capacity(address, full, texts, mix[-1], report)
        report.facts["capacity of full depth"] = f"{capacity:.1f} texts/s"
        traffic = Traffic(address, texts, mix, info["exits"], info["dims"], random.Random(args.seed))
        rest = await _at_rest(address, mix[0])
        seen = await _load(server, traffic, args.load * capacity, 60 * args.minutes, report)
        left = await _at_rest(address, mix[0])
    report.rounds["memory"] = seen.memory
    report.rounds["statuses"] = dict(seen.good)
    if seen.problems:
        report.facts["first of each refusal"] = "; ".join(f"{s}: {t[:120]}" for s, t in sorted(seen.problems.items()))
    return _figures(seen, rest, left, 60 * args.minutes)


async def _load(server: ServerProcess, traffic: Traffic, rate: float, seconds: float, report: Report) -> Seen:
    """Send for so long; ``rate`` in texts at full depth a second."""
    seen = Seen()
    began = time.perf_counter()
    watching = asyncio.create_task(_watch(server.pid, seen, began))
    try:
        while (done := time.perf_counter() - began) < seconds:
            length = min(_SEGMENT_S, seconds - done)
            await asyncio.gather(_send(traffic, rate, length, seen), _leave(traffic, rate, length, seen))
            memory = seen.memory[-1][1] if seen.memory else float("nan")
            report.tell(f"{done + length:.0f} s: {seen.good.total()} answers, {memory:.0f} MB")
    finally:
        watching.cancel()
    return seen


async def _send(traffic: Traffic, rate: float, seconds: float, seen: Seen) -> None:
    requests: list[tuple[bytes, int | None]] = []  # and the status of those that must be refused
    work = 0.0
    while work < rate * seconds * (1 - _MANNERS):
        if traffic.random.random() < _MANNERS:
            requests.append(traffic.wrong())
        else:
            request, weight = traffic.draw()
            requests.append((request, None))
            work += weight
    due = np.sort(np.random.default_rng(traffic.at).uniform(0, seconds, len(requests))).tolist()
    sent = [request for request, _ in requests]
    run = await run_open(traffic.address, sent, due, connections=_CONNECTIONS, patience_s=_PATIENCE_S)
    for trip, (_, refusal) in zip(run.trips, requests, strict=True):
        if refusal is None:
            seen.good[trip.status] += 1
        else:
            seen.wrong[trip.status == refusal] += 1
    for status, text in run.problems.items():
        seen.problems.setdefault(status, text)


async def _leave(traffic: Traffic, rate: float, seconds: float, seen: Seen) -> None:
    """Ask, and hang up before the answer: at once, or a little later, or with half of the request sent."""
    until, work = time.perf_counter() + seconds, 0.0
    began = time.perf_counter()
    while (now := time.perf_counter()) < until:
        request, weight = traffic.draw()
        work += weight
        await asyncio.sleep(max(0.0, began + work / (rate * _MANNERS) - now))
        try:
            connection = await Connection.open(traffic.address)
        except OSError:
            continue
        half = traffic.random.random() < 0.3
        answer = asyncio.create_task(connection.send(request[: len(request) // 2] if half else request))
        await asyncio.sleep(traffic.random.uniform(*_LEFT_AFTER_S))
        connection.close()
        await asyncio.gather(answer, return_exceptions=True)
        seen.left += 1


async def _watch(pid: int, seen: Seen, began: float) -> None:
    while True:
        memory = await asyncio.to_thread(measure_memory, pid)
        seen.memory.append((time.perf_counter() - began, memory.rss))
        await asyncio.sleep(_LOOK_S)


async def _at_rest(address: Address, sender: Sender) -> dict[str, float]:
    """Some series of /metrics, once nothing has been asked for a while. Raises LoadError when they are not told."""
    await asyncio.sleep(_SETTLE_S)
    return await read_series(address, sender.headers, *_AT_REST)


def _figures(seen: Seen, rest: dict[str, float], left: dict[str, float], seconds: float) -> list[Figure]:
    first = min(_FIRST_S, seconds / 4)
    window = (seconds - first) / 4
    early = [size for at, size in seen.memory if first <= at < first + window]
    late = [size for at, size in seen.memory if at >= seconds - window]
    if not early or not late:
        raise LoadError(f"{seconds:.0f} s are too short to tell growth from its beginning")
    total = max(1, seen.good.total())
    busy, impossible = (sum(seen.good[status] for status in some) / total for some in (_BUSY, _IMPOSSIBLE))
    strange = sum(count for status, count in seen.good.items() if status not in _GOOD)
    return [
        Figure("requests of good manners", total),
        Figure("  answered with vectors", seen.good[_ANSWERED] / total),
        Figure("  refused or given up for want of room or time", busy, at_most=0.05),
        Figure("  of depths that their deadlines have no time for", impossible),
        Figure("  unanswered, or answered otherwise", strange, at_most=0),
        Figure("wrong requests, each refused with its status", seen.wrong[True]),
        Figure("  and those that were not", seen.wrong[False], at_most=0),
        Figure("left before their answer, besides", seen.left),
        Figure(f"memory after the first {first:.0f} s, RSS summed", median(early), "MB"),
        Figure("  growth until the end", 100 * (median(late) / median(early) - 1), "%", at_most=2.0),
        Figure("open descriptors more than before", left["process_open_fds"] - rest["process_open_fds"], at_most=0),
        Figure("tasks more than before", left["strata_tasks"] - rest["strata_tasks"], at_most=0),
        Figure("requests in progress at rest", left["strata_requests_in_progress"], at_most=0),
        Figure("texts waiting at rest", left["te_queue_size"], at_most=0),
        Figure("engine processes replaced", left["strata_worker_restarts_total"], at_most=0),
    ]
