"""What a request costs the front, the process that speaks HTTP: its CPU time before an engine that only waits."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

from strata.app.safe_path import module_command, safe_environment
from strata.loadtest.closed_loop import run_once
from strata.loadtest.connection import Address, LoadError, fetch
from strata.loadtest.family import own_cpu_seconds
from strata.loadtest.figures import Figure
from strata.loadtest.options import served_folder
from strata.loadtest.report import Report
from strata.loadtest.rounds import interleave
from strata.loadtest.texts import digest, load_texts, stretch

_START_S = 60.0


@dataclass(slots=True, frozen=True)
class Load:
    """Single texts over so many connections, and the most CPU a request may cost."""

    connections: int
    at_most_ms: float
    query: str = ""

    @property
    def name(self) -> str:
        """For people."""
        many = "1 connection" if self.connections == 1 else f"{self.connections} connections"
        return f"single texts, {many}" + (", with a budget" if self.query else "")


LOADS = (
    Load(1, 0.35),
    Load(16, 0.15),
    Load(1, 0.35, "?budget_ms=200"),
    Load(16, 0.15, "?budget_ms=200"),
)


async def measure(args: argparse.Namespace, report: Report) -> list[Figure]:
    """The figures of `strata loadtest front`."""
    texts = load_texts(args.texts)
    report.facts["texts"] = f"{len(texts)} ({digest(texts)})"
    report.facts["engine"] = f"none; a batch takes {args.engine_ms:g} ms"
    async with _front(args) as (address, pid):

        async def turn(load: Load, number: int) -> float:
            """CPU seconds a request."""
            chosen = stretch(texts, number * args.requests, args.requests)
            requests = [address.post("/embed" + load.query, {"inputs": text}) for text in chosen]
            before = own_cpu_seconds(pid)
            await run_once(address, requests, load.connections)
            return (own_cpu_seconds(pid) - before) / args.requests

        for load in LOADS:
            await turn(load, 0)
        found = await interleave(
            {load.name: lambda number, load=load: turn(load, number) for load in LOADS},
            args.rounds,
            lambda name, seconds: report.tell(f"  {name}: {1e3 * seconds:.3f} ms"),
        )
    report.rounds["cpu seconds a request"] = found
    return [Figure(load.name, 1e3 * median(found[load.name]), "ms", at_most=load.at_most_ms) for load in LOADS]


@asynccontextmanager
async def _front(args: argparse.Namespace) -> AsyncIterator[tuple[Address, int]]:
    """The front in a process of its own, ready."""
    command = module_command("strata.loadtest.front_server", str(served_folder(args)), str(args.engine_ms / 1e3))
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=sys.stderr, env=safe_environment()
    )
    try:
        assert process.stdout is not None
        port = await process.stdout.readline()
        if not port:
            raise LoadError("the front did not start")
        address = Address("127.0.0.1", int(port))
        async with asyncio.timeout(_START_S):
            while (await fetch(address, address.get("/ready"))).status != 200:
                await asyncio.sleep(0.05)
        yield address, process.pid
    finally:
        process.terminate()
        await process.wait()
