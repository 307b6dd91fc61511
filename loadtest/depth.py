"""Time follows depth: the same requests at a quarter, half and all of the layers, over HTTP."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from statistics import median

from strata.loadtest.closed_loop import Sample, run_once
from strata.loadtest.connection import Address, fetch
from strata.loadtest.figures import Figure, median_ratio
from strata.loadtest.options import any_server
from strata.loadtest.report import Report
from strata.loadtest.rounds import interleave
from strata.loadtest.texts import digest, load_texts, stretch


@dataclass(slots=True, frozen=True)
class Load:
    """One kind of load, and what a request at a share of the layers may take beyond that share of full depth's time."""

    name: str
    texts: int  # a request
    connections: int
    beyond: float


LOADS = (
    Load("requests of 32, 4 connections", 32, 4, beyond=0.04),
    Load("requests of 32, 1 connection", 32, 1, beyond=0.04),
    # What a request costs besides its layers weighs more on a single text.
    Load("single texts, 1 connection", 1, 1, beyond=0.10),
)


async def measure(args: argparse.Namespace, report: Report) -> list[Figure]:
    """The figures of `strata loadtest depth`."""
    texts = load_texts(args.texts)
    report.facts["texts"] = f"{len(texts)} ({digest(texts)})"
    async with any_server(args) as server:
        info = (await fetch(server.address, server.address.get("/info"))).json()
        report.facts["model"], report.facts["engine"] = info["model_id"], info["engine"]["reason"]
        figures = []
        for load in LOADS:
            figures += await _measure_load(server.address, load, info["layers"], texts, args, report)
        return figures


async def _measure_load(
    address: Address, load: Load, full: int, texts: list[str], args: argparse.Namespace, report: Report
) -> list[Figure]:
    count = args.singles if load.texts == 1 else args.requests

    async def turn(layers: int, number: int) -> Sample:
        """Every depth of a round gets the same texts, so that their times compare one to one."""
        path = f"/embed?layers={layers}"
        start = number * count * load.texts
        groups = [stretch(texts, start + i * load.texts, load.texts) for i in range(count)]
        return await run_once(address, [address.post(path, {"inputs": group}) for group in groups], load.connections)

    quarter, half = full // 4, full // 2
    report.tell(f"{load.name}: warm-up")
    for layers in (full, half, quarter):
        await turn(layers, 0)
    samples = await interleave(
        {str(layers): partial(turn, layers) for layers in (full, half, quarter)},
        args.rounds,
        lambda name, sample: report.tell(f"  {name} layers: {sample.seconds / count * 1e3:.2f} ms a request"),
    )
    times = {name: [sample.seconds / count for sample in found] for name, found in samples.items()}
    report.rounds[load.name] = times
    figures = [Figure(f"{load.name}: {full} layers", median(times[str(full)]) * 1e3, "ms a request")]
    for layers in (half, quarter):
        ratio = median_ratio(times[str(layers)], times[str(full)])
        figures.append(Figure(f"  {layers}/{full} of the time", ratio, at_most=layers / full + load.beyond))
    busiest = max(sample.client_cpu for found in samples.values() for sample in found)
    return [*figures, Figure("  this client, share of one core", busiest)]
