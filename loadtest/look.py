"""What it costs to serve while somebody looks at the explorer's Now."""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from statistics import median

from strata.app.telemetry.metrics import Answered, Standing
from strata.app.telemetry.recorder import sample
from strata.loadtest.closed_loop import run_for
from strata.loadtest.connection import Address, Connection, fetch
from strata.loadtest.family import own_cpu_seconds
from strata.loadtest.figures import Figure, median_ratio
from strata.loadtest.meanwhile import meanwhile
from strata.loadtest.options import own_server
from strata.loadtest.processes import ServerProcess
from strata.loadtest.report import Report
from strata.loadtest.rounds import interleave
from strata.loadtest.texts import digest, load_texts

_EVERY_S, _ASKED_S = 1.0, 3  # as the page asks: once a second, for what is new
_FORGOTTEN_S = 32.0  # after the last look, nothing is recorded any more
_AT_MOST = 0.01
_LOOKS, _SAMPLES = 1000, 50  # timed by themselves


@dataclass(slots=True, frozen=True)
class Turn:
    """One stretch of load."""

    rate: float  # texts a second
    front_ms: float  # CPU time that the front took for a text


async def measure(args: argparse.Namespace, report: Report) -> list[Figure]:
    """Two servers under the same load in turns, one of them looked at; half-way they change places."""
    texts = load_texts(args.texts)
    report.facts["texts"] = f"{len(texts)} ({digest(texts)})"
    turns: dict[str, list[Turn]] = {"alone": [], "looked at": []}
    async with own_server(args) as one, own_server(args) as other:
        info = (await fetch(one.address, one.address.get("/info"))).json()
        layers = min(exit_ for exit_ in info["exits"] if exit_)

        async def turn(server: ServerProcess, seconds: float) -> Turn:
            path = f"/embed?layers={layers}"
            requests = [server.address.post(path, {"inputs": text}) for text in texts]
            before = own_cpu_seconds(server.pid)
            ran = await run_for(server.address, requests, args.connections, seconds)
            return Turn(ran.rate, (own_cpu_seconds(server.pid) - before) / len(ran.spans) * 1000)

        def turns_on(server: ServerProcess) -> Callable[[int], Coroutine[None, None, Turn]]:
            return lambda number: turn(server, args.seconds)

        for server in (one, other):
            await turn(server, 2 * args.seconds)  # warm-up
        for seen, unseen in ((one, other), (other, one)):
            if seen is other:
                report.tell("the servers change places")
                await asyncio.sleep(_FORGOTTEN_S)
            async with _looking(seen.address):
                found = await interleave(
                    {"alone": turns_on(unseen), "looked at": turns_on(seen)},
                    args.rounds,
                    lambda name, t: report.tell(f"  {name}: {t.rate:.1f} texts/s, {t.front_ms:.3f} ms of the front"),
                )
            for name, each in found.items():
                turns[name] += each
        look_ms = await _look_ms(other)
    alone, looked = turns["alone"], turns["looked at"]
    report.rounds["turns"] = {name: [[t.rate, t.front_ms] for t in each] for name, each in turns.items()}
    rate = median(t.rate for t in alone)
    record_ms = _record_ms(round(rate))
    front = median_ratio([t.front_ms for t in looked], [t.front_ms for t in alone]) - 1
    return [
        Figure("one look: the front's CPU time", look_ms, "ms"),
        Figure(f"recording {rate:.0f} answers: likewise", record_ms, "ms"),
        Figure("  both, once a second: share of a core", (look_ms + record_ms) / 1000, at_most=_AT_MOST),
        Figure(f"single texts at {layers} layers, alone", rate, "texts/s"),
        Figure("  the front's CPU time for a text", median(t.front_ms for t in alone), "ms"),
        Figure("looked at: the front's CPU time, more by", front, at_most=_AT_MOST),
        Figure(
            "  texts/s, less by",
            1 - median_ratio([t.rate for t in looked], [t.rate for t in alone]),
            at_most=_AT_MOST,
        ),
    ]


async def _look_ms(server: ServerProcess) -> float:
    """CPU milliseconds that the front takes for one look: the load's noise is larger than it."""
    connection = await Connection.open(server.address)
    try:
        before = own_cpu_seconds(server.pid)
        for _ in range(_LOOKS):
            await connection.send(server.address.get(f"/now?seconds={_ASKED_S}"))
        return (own_cpu_seconds(server.pid) - before) / _LOOKS * 1000
    finally:
        connection.close()


def _record_ms(answers: int) -> float:
    """CPU milliseconds of a second's sample of so many answers, and of noting each."""
    before, now = Standing(), Standing()
    began = time.process_time()
    for _ in range(_SAMPLES):
        noted: list[Answered] = []
        observer = noted.append
        for number in range(answers):
            observer(Answered("default", 12, 0.1, 0.02, 0.001 * (number % 37)))
        sample(noted, before, now, 1.0)
    return (time.process_time() - began) / _SAMPLES * 1000


@asynccontextmanager
async def _looking(address: Address) -> AsyncIterator[None]:
    """Ask for /now as the page does, until the end."""

    async def look() -> None:
        connection = await Connection.open(address)
        try:
            while True:
                await connection.send(address.get(f"/now?seconds={_ASKED_S}"))
                await asyncio.sleep(_EVERY_S)
        finally:
            connection.close()

    async with meanwhile(look()):
        await asyncio.sleep(2 * _EVERY_S)
        yield
