"""A search service under a flood of queries: depth pinned against depth that floats, on one full-depth index.

Documents are embedded at leisure, at full depth. Queries come whether or not earlier ones were answered, each with a
deadline, and are searched with the vector they were answered with. What counts in the end is what reaches the person
who asked: nDCG@10 over all queries, an answer that was late or refused being worth nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from strata.loadtest import arrivals
from strata.loadtest.closed_loop import run_for
from strata.loadtest.connection import Address, LoadError, Response, fetch
from strata.loadtest.figures import Figure
from strata.loadtest.open_loop import run_open
from strata.loadtest.options import any_server
from strata.loadtest.policies import nearest
from strata.loadtest.report import Report
from strata.loadtest.search_index import RAW, SearchIndex, path_of, retrieval_set, vectors_of

_CONNECTIONS = 64
_CAPACITY_CONNECTIONS = 16
_CAPACITY_S = 4.0
_NO_HURRY_MS = 60_000
_PATIENCE_S = 10.0
_REST_S = 0.5  # between two runs
FLOATING = "floating"


@dataclass(slots=True, frozen=True)
class Outcome:
    """One policy at one load. ``delivered``: nDCG@10 x 100 over all queries, a late or refused one being 0."""

    load: float  # times what full depth carries
    rate: float  # queries a second
    policy: str
    queries: int
    in_time: float  # share
    refused: float  # share, on arrival
    ndcg: float | None  # x 100, of the queries answered in time
    delivered: float
    layers: float | None  # mean, of the queries answered
    p50_ms: float | None
    p99_ms: float | None


async def measure(args: argparse.Namespace, report: Report) -> list[Figure]:
    """The figures of `strata loadtest search`."""
    data = retrieval_set(args.beir)
    report.facts["set"] = f"{data.name}: {len(data.queries)} queries, {len(data.documents)} documents"
    report.tell(report.facts["set"])
    async with any_server(args) as server:
        address = server.address
        info = (await fetch(address, address.get("/info"))).json()
        report.facts["model"], report.facts["engine"] = info["model_id"], info["engine"]["reason"]
        full, exits = info["layers"], info["exits"]
        if wrong := sorted(set(args.pinned) - set(exits)):
            raise ValueError(f"--pinned {wrong[0]}: the model's exits are {', '.join(map(str, exits))}")
        began = time.perf_counter()
        index = await SearchIndex.build(address, data)
        report.tell(f"{len(data.documents)} documents in {time.perf_counter() - began:.1f} s, space {index.space}")
        pinned = args.pinned or (full, nearest(exits, full / 2))
        policies = {f"pinned at {layers}": {"layers": layers} for layers in pinned} | {FLOATING: {}}
        capacity = args.capacity or await _capacity(address, index, full)
        report.facts["capacity"] = f"{capacity:.1f} queries/s at {full} layers"
        outcomes = []
        for load in args.loads:
            for name, policy in policies.items():
                path = path_of({**policy, "budget_ms": args.deadline_ms})
                outcomes.append(await _run(address, index, path, name, load, capacity, args))
                report.tell(_told(outcomes[-1]))
    report.rounds["outcomes"] = [asdict(outcome) for outcome in outcomes]
    print(table(outcomes), end="\n\n")
    return _figures(outcomes)


async def _capacity(address: Address, index: SearchIndex, full: int) -> float:
    """Queries a second at full depth: closed loop, always 16 of them with the server."""
    path = path_of({"layers": full, "budget_ms": _NO_HURRY_MS})
    requests = [address.post(path, {"inputs": text}, RAW) for text in index.data.queries.values()]
    await run_for(address, requests, _CAPACITY_CONNECTIONS, _CAPACITY_S / 2)
    return (await run_for(address, requests, _CAPACITY_CONNECTIONS, _CAPACITY_S)).rate


async def _run(
    address: Address, index: SearchIndex, path: str, name: str, load: float, capacity: float, args: argparse.Namespace
) -> Outcome:
    """One policy under one load: every policy gets the same queries at the same moments."""
    rate, deadline_s = load * capacity, args.deadline_ms / 1000
    random = np.random.default_rng(args.seed)
    due = arrivals.draw([(0.0, rate), (args.seconds, rate)], args.cv2, random)
    if not len(due):
        raise ValueError(f"--seconds {args.seconds:g}: not one query falls into so short a time")
    ids = list(index.data.queries)
    asked = [ids[i % len(ids)] for i in range(len(due))]
    requests = [address.post(path, {"inputs": index.data.queries[query]}, RAW) for query in asked]
    answers: dict[int, Response] = {}

    def keep(number: int, response: Response) -> None:
        if response.status == 200:
            answers[number] = response

    run = await run_open(
        address, requests, due.tolist(), connections=_CONNECTIONS, patience_s=deadline_s + _PATIENCE_S, heard=keep
    )
    for answer in answers.values():
        if answer.header("x-strata-space") != index.space.lower():
            raise LoadError(
                f"{name}: a query is to be searched in {answer.header('x-strata-space')}, not {index.space}: at that "
                "depth none was measured on full-depth documents. Run strata profile with --beir first, or pin to full "
                "depth with --pinned"
            )
    await asyncio.sleep(_REST_S)
    took = np.array([np.nan if trip.answered is None else trip.answered for trip in run.trips]) - due
    status = np.array([trip.status for trip in run.trips])
    answered = status == 200
    in_time = answered & (took <= deadline_s)
    numbers = np.flatnonzero(in_time).tolist()
    vectors = np.concatenate([vectors_of(answers[n]) for n in numbers]) if numbers else np.empty((0, 1), np.float32)
    scores = 100 * index.ndcg([asked[n] for n in numbers], vectors)
    layers = [trip.layers for trip in run.trips if trip.layers is not None]
    waits = 1000 * took[answered]
    return Outcome(
        load=load,
        rate=round(rate, 1),
        policy=name,
        queries=len(due),
        in_time=float(in_time.mean()),
        refused=float(np.isin(status, (422, 429, 503)).mean()),
        ndcg=float(scores.mean()) if len(scores) else None,
        delivered=float(scores.sum() / len(due)),
        layers=float(np.mean(layers)) if layers else None,
        p50_ms=float(np.percentile(waits, 50)) if len(waits) else None,
        p99_ms=float(np.percentile(waits, 99)) if len(waits) else None,
    )


def table(outcomes: Sequence[Outcome]) -> str:
    """One line for each load and policy."""
    rows = [["load", "queries/s", "policy", "in time", "refused", "nDCG@10", "delivered", "layers", "p50 ms", "p99 ms"]]
    rows += [
        [
            f"{each.load:g} x",
            f"{each.rate:.0f}",
            each.policy,
            f"{each.in_time:.1%}",
            f"{each.refused:.1%}",
            _shown(each.ndcg, 1),
            f"{each.delivered:.1f}",
            _shown(each.layers, 2),
            _shown(each.p50_ms, 0),
            _shown(each.p99_ms, 0),
        ]
        for each in outcomes
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{cell:{'<' if column == 2 else '>'}{widths[column]}}" for column, cell in enumerate(row))
        for row in rows
    )


def _figures(outcomes: Sequence[Outcome]) -> list[Figure]:
    """What floating delivers against the best fixed depth, load by load."""
    figures = []
    for load in dict.fromkeys(each.load for each in outcomes):
        here = {each.policy: each for each in outcomes if each.load == load}
        best = max(each.delivered for name, each in here.items() if name != FLOATING)
        figures.append(Figure(f"in time at {load:g} x, floating", here[FLOATING].in_time))
        if best > 0:
            name = f"delivered nDCG at {load:g} x, floating against the best fixed depth"
            figures.append(Figure(name, here[FLOATING].delivered / best))
    return figures


def _told(outcome: Outcome) -> str:
    return (
        f"{outcome.load:g} x, {outcome.policy}: {outcome.in_time:.1%} in time, nDCG@10 {_shown(outcome.ndcg, 1)}, "
        f"delivered {outcome.delivered:.1f}"
    )


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
