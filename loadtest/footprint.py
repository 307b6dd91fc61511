"""Time from `strata serve` to ready, and the memory all its processes take under load, for each backend."""

from __future__ import annotations

import argparse
import asyncio
from statistics import median

from strata.loadtest.closed_loop import Sample, run_for
from strata.loadtest.family import Memory, has_mapped, measure_memory
from strata.loadtest.figures import Figure
from strata.loadtest.options import own_server
from strata.loadtest.processes import ServerProcess
from strata.loadtest.report import Report
from strata.loadtest.texts import digest, load_texts, stretch

_READY_S = 3.0
_MEMORY_MB = {"torch": 618.0, "onnxruntime": 404.0}  # as it was before the blocks were laid out for oneDNN
_LOOK_S = 0.25
_CONNECTIONS = 16


async def measure(args: argparse.Namespace, report: Report) -> list[Figure]:
    """The figures of `strata loadtest footprint`."""
    texts = load_texts(args.texts)
    report.facts["texts"] = f"{len(texts)} ({digest(texts)})"
    figures = [await _time_to_ready(args, report)]
    for backend, bar in _MEMORY_MB.items():
        figures += await _under_load(backend, bar, texts, args, report)
    return figures


async def _time_to_ready(args: argparse.Namespace, report: Report) -> Figure:
    async def start() -> float:
        async with own_server(args) as server:
            return server.ready_after_s

    report.tell(f"ready after {await start():.2f} s (warms the disk, not counted)")
    seconds = []
    for number in range(args.rounds):
        seconds.append(await start())
        report.tell(f"start {number + 1}/{args.rounds}: ready after {seconds[-1]:.2f} s")
    report.rounds["ready"] = seconds
    return Figure("from `strata serve` to ready", median(seconds), "s", at_most=_READY_S)


async def _under_load(
    backend: str, bar: float, texts: list[str], args: argparse.Namespace, report: Report
) -> list[Figure]:
    async with own_server(args, "--backend", backend) as server:
        load = asyncio.create_task(_mixed_load(server, texts, args.seconds))
        seen: list[Memory] = []
        while not load.done():
            await asyncio.sleep(_LOOK_S)
            seen.append(measure_memory(server.pid))
        rate = sum(sample.rate for sample in await load)
        with_torch = len(has_mapped(server.pid, "libtorch"))
        front_has_torch = server.pid in has_mapped(server.pid, "libtorch")
    report.rounds[backend] = [(memory.rss, memory.pss) for memory in seen]
    most = max(seen, key=lambda memory: memory.rss)
    report.tell(f"{backend}: {most.rss:.0f} MB in {most.processes} processes, {rate:.0f} requests/s meanwhile")
    return [
        Figure(f"{backend}: memory under load, PSS summed", max(memory.pss for memory in seen), "MB", at_most=bar),
        Figure("  RSS summed (shared pages counted in each process)", most.rss, "MB"),
        Figure("  processes", most.processes),
        Figure("  of them with torch loaded", with_torch, at_most=0 if backend == "onnxruntime" else None),
        Figure("  front with torch loaded", front_has_torch, at_most=0),
    ]


async def _mixed_load(server: ServerProcess, texts: list[str], seconds: float) -> tuple[Sample, Sample]:
    """Single texts and requests of 32 together, at full depth."""
    address = server.address
    singles = [address.post("/embed", {"inputs": text}) for text in texts]
    groups = [address.post("/embed", {"inputs": stretch(texts, i, 32)}) for i in range(0, len(texts), 32)]
    return await asyncio.gather(
        run_for(address, singles, _CONNECTIONS, seconds), run_for(address, groups, _CONNECTIONS // 4, seconds)
    )
