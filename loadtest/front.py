"""What a request costs the front, the process that speaks HTTP: its CPU time before an engine that only waits."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
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
_LARGE = 128  # texts of a large request
_TURNS = 4  # of them, at least, over each connection


@dataclass(slots=True, frozen=True)
class Load:
    """Requests over so many connections, and the most CPU that one may cost; a thousand texts of larger ones."""

    connections: int
    at_most_ms: float
    query: str = ""
    refused: bool = False  # nearly all of them, by a server with hardly a queue
    texts: int = 1  # of a request
    encoding: str = "float"  # of the answer

    @property
    def name(self) -> str:
        """For people."""
        many = "1 connection" if self.connections == 1 else f"{self.connections} connections"
        if self.texts > 1:
            return f"1,000 texts in requests of {self.texts}, {self.encoding}, {many}"
        return f"single texts, {many}" + (", with a budget" if self.query else "") + ", refused" * self.refused

    @property
    def unit(self) -> float:
        """Requests that are told as one."""
        return 1000 / self.texts if self.texts > 1 else 1.0

    def body(self, texts: list[str]) -> dict[str, object]:
        """The request for these texts."""
        return {"inputs": texts, "encoding_format": self.encoding} if self.texts > 1 else {"inputs": texts[0]}


LOADS = (
    Load(1, 0.35),
    Load(16, 0.15),
    Load(1, 0.35, "?budget_ms=1000"),
    Load(16, 0.15, "?budget_ms=1000"),
    Load(16, 0.1, "?budget_ms=1000", refused=True),
    Load(8, 14.0, texts=_LARGE),
    Load(8, 9.5, texts=_LARGE, encoding="base64"),
)
_QUEUE, _SHORT_QUEUE = 8192, 2  # texts
_BUSY = 20  # times as long takes a batch of the server that refuses, so that few are answered


async def measure(args: argparse.Namespace, report: Report) -> list[Figure]:
    """The figures of `strata loadtest front`."""
    texts = load_texts(args.texts)
    report.facts["texts"] = f"{len(texts)} ({digest(texts)})"
    report.facts["engine"] = f"none; a batch takes {args.engine_ms:g} ms"
    engine_s = args.engine_ms / 1e3
    async with (
        _front(args, engine_s, _QUEUE) as usual,
        _front(args, _BUSY * engine_s, _SHORT_QUEUE) as refusing,
        _front(args, engine_s, _QUEUE, _LARGE, "cuda") as large,
    ):

        async def turn(load: Load, number: int) -> float:
            """CPU seconds a request, or a thousand texts."""
            address, pid = large if load.texts > 1 else refusing if load.refused else usual
            count: int = (
                max(_TURNS * load.connections, args.requests // load.texts) if load.texts > 1 else args.requests
            )
            chosen = (stretch(texts, (number * count + i) * load.texts, load.texts) for i in range(count))
            requests = [address.post("/embed" + load.query, load.body(each)) for each in chosen]
            before = own_cpu_seconds(pid)
            await run_once(address, requests, load.connections, (200, 429) if load.refused else (200,))
            return load.unit * (own_cpu_seconds(pid) - before) / count

        for load in LOADS:
            await turn(load, 0)
        found = await interleave(
            {load.name: partial(turn, load) for load in LOADS},
            args.rounds,
            lambda name, seconds: report.tell(f"  {name}: {1e3 * seconds:.3f} ms"),
        )
    report.rounds["cpu seconds a request, or a thousand texts"] = found
    return [Figure(load.name, 1e3 * median(found[load.name]), "ms", at_most=load.at_most_ms) for load in LOADS]


@asynccontextmanager
async def _front(
    args: argparse.Namespace, engine_s: float, queue_texts: int, most_texts: int = 1, device: str = "cpu"
) -> AsyncIterator[tuple[Address, int]]:
    """The front in a process of its own, ready, and its process id."""
    options = (str(served_folder(args)), str(engine_s), str(queue_texts), str(most_texts), device)
    command = module_command("strata.loadtest.front_server", *options)
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
