"""What HTTP, queue and tokenizer cost: throughput through the server as a share of the bare engine's."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from strata.app.engine.options import EngineOptions
from strata.app.engine.pool import EnginePool
from strata.app.tokenizer import Encode, Tokenizer
from strata.loadtest.bare_engine import BareEngine
from strata.loadtest.closed_loop import Sample, run_once
from strata.loadtest.connection import Address, fetch
from strata.loadtest.figures import Figure, median_ratio
from strata.loadtest.options import own_server, served_folder
from strata.loadtest.report import Report
from strata.loadtest.rounds import interleave
from strata.loadtest.texts import digest, load_texts, stretch
from strata.model_store.bundle.bundle import read_manifest

if TYPE_CHECKING:
    from strata.app.engine.batch import TokenIds

_EVEN = 3.0  # the most p99 may be of p50, single texts at depth 1


@dataclass(slots=True, frozen=True)
class Load:
    """One kind of load, and the least share of the bare engine's throughput the server must keep."""

    name: str
    texts: int  # a request
    connections: int
    at_least: float


LOADS = (
    Load("requests of 32, 4 connections", 32, 4, at_least=0.85),
    Load("single texts, 64 connections", 1, 64, at_least=0.70),
)


@dataclass(slots=True)
class Sides:
    """The server and the bare engine, both up, one loaded at a time."""

    address: Address
    engine: BareEngine
    texts: list[str]
    tokens: Sequence[TokenIds]  # of the same texts
    layers: int
    dim: int

    async def server(self, load: Load, start: int, count: int) -> float:
        """Texts a second through the server."""
        groups = [stretch(self.texts, start + i, load.texts) for i in range(0, count, load.texts)]
        requests = [self.address.post("/embed", {"inputs": group}) for group in groups]
        return count / (await run_once(self.address, requests, load.connections)).seconds

    async def bare(self, load: Load, start: int, count: int) -> float:
        """Texts a second through the engine alone, as many outstanding as the server's clients have."""
        tokens = [self.tokens[(start + i) % len(self.tokens)] for i in range(count)]
        return count / await self.engine.run(tokens, self.layers, self.dim, load.texts * load.connections)


async def measure(args: argparse.Namespace, report: Report) -> list[Figure]:
    """The figures of `strata loadtest overhead`."""
    texts = load_texts(args.texts)
    report.facts["texts"] = f"{len(texts)} ({digest(texts)})"
    folder = served_folder(args)
    manifest = read_manifest(folder)
    tokenizer = Tokenizer(folder, manifest, workers=1, default_prompt_name=None)
    tokens = await tokenizer.encode(texts, Encode(truncate=True))
    async with AsyncExitStack() as stack:
        address = (await stack.enter_async_context(own_server(args))).address
        info = (await fetch(address, address.get("/info"))).json()
        engine = info["engine"]
        report.facts["engine"] = ", ".join(f"{name} {value}" for name, value in engine.items() if name != "candidates")
        # What the server chose by measuring is given to the bare engine as fixed, so that both run the same.
        pool = EnginePool(
            folder,
            EngineOptions(engine["backend"], engine["dtype"], engine["device"], engine["workers"], engine["threads"]),
        )
        stack.push_async_callback(pool.stop)
        await pool.start()
        bare = BareEngine(pool, info["max_batch_tokens"])
        sides = Sides(address, bare, texts, tokens, info["layers"], info["full_dim"])
        figures = []
        for load in LOADS:
            figures += await _throughput(sides, load, args, report)
        return [*figures, *await _evenness(address, texts, min(info["exits"]), args, report)]


async def _throughput(sides: Sides, load: Load, args: argparse.Namespace, report: Report) -> list[Figure]:
    count = args.turn_texts // load.texts * load.texts
    report.tell(f"{load.name}: warm-up")
    await sides.server(load, 0, count // 2)
    await sides.bare(load, 0, count // 2)
    rates = await interleave(
        {
            "server": lambda number: sides.server(load, number * count, count),
            "bare engine": lambda number: sides.bare(load, number * count, count),
        },
        args.rounds,
        lambda name, rate: report.tell(f"  {name}: {rate:.1f} texts/s"),
    )
    report.rounds[load.name] = rates
    return [
        Figure(f"{load.name}: server", median(rates["server"]), "texts/s"),
        Figure("  bare engine", median(rates["bare engine"]), "texts/s"),
        Figure(
            "  server as a share of it", median_ratio(rates["server"], rates["bare engine"]), at_least=load.at_least
        ),
    ]


async def _evenness(
    address: Address, texts: list[str], layers: int, args: argparse.Namespace, report: Report
) -> list[Figure]:
    name = f"single texts, 64 connections, depth {layers}"
    report.tell(f"{name}: warm-up")

    async def turn(number: int) -> Sample:
        chosen = stretch(texts, number * args.turn_texts, args.turn_texts)
        path = f"/embed?layers={layers}"
        return await run_once(address, [address.post(path, {"inputs": text}) for text in chosen], 64)

    await turn(0)
    samples = []
    for number in range(args.rounds):
        samples.append(await turn(number))
        report.tell(f"  round {number + 1}/{args.rounds}: {samples[-1].rate:.0f} texts/s")
    report.rounds[name] = [{"rate": s.rate, "p50": s.p50, "p99": s.p99} for s in samples]
    return [
        Figure(f"{name}: server", median(s.rate for s in samples), "texts/s"),
        Figure("  p50", median(s.p50 for s in samples) * 1e3, "ms"),
        Figure("  p99", median(s.p99 for s in samples) * 1e3, "ms"),
        Figure("  p99 / p50", median(s.p99 / s.p50 for s in samples), at_most=_EVEN),
        Figure("  this client, share of one core", max(s.client_cpu for s in samples)),
    ]
