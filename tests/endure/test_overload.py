"""Five times as much as the engine carries: who is let in is in time, who is not hears so at once, and it passes."""

from __future__ import annotations

import asyncio
import time
from math import ceil
from pathlib import Path
from statistics import median

import pytest

from strata.loadtest.closed_loop import run_for
from strata.loadtest.connection import Address, fetch
from strata.loadtest.open_loop import Trip, run_open
from strata.loadtest.outcomes import AT_THE_DOOR
from tests.conftest import ServerFactory

TIMES = 5
DEADLINE_S = 1.0
RECOVERY_S = 2.0
# Work for the engine, hardly any for HTTP or the tokenizer: the load is on the queue.
BODY = {"inputs": [[7 + i % 50 for i in range(150)]] * 16}


@pytest.mark.parametrize("seconds", [4.0, pytest.param(60.0, marks=pytest.mark.soak)])
def test_overload_is_refused_soon_the_accepted_are_in_time_and_it_recovers(
    start_server: ServerFactory, tiny_bundle: Path, seconds: float
) -> None:
    server = start_server(tiny_bundle, "--max-concurrent-requests", "16384", "--no-log-requests")
    address = Address.parse(server.url)
    request = address.post(f"/embed?budget_ms={1000 * DEADLINE_S:.0f}&exits=4", BODY)

    async def overload() -> tuple[list[Trip], float]:
        capacity = (await run_for(address, [address.post("/embed?layers=4", BODY)], 4, 1.5)).rate
        count = ceil(TIMES * capacity * seconds)
        due = [seconds * i / count for i in range(count)]
        run = await run_open(address, [request] * count, due, connections=64, patience_s=10)
        ended = time.perf_counter() - (run.took_s - seconds)  # of the load; since then answers were awaited
        while True:
            began = time.perf_counter()
            if (await fetch(address, request)).status == 200 and time.perf_counter() - began < DEADLINE_S:
                return run.trips, time.perf_counter() - ended
            await asyncio.sleep(0.05)

    # Short tests share their machine with others, who may take half of it away once the capacity is measured: what is
    # held of times is held of the best of three tries, and everything else of each.
    missed: list[str] = []
    while len(missed) < (1 if seconds > 30 else 3):
        trips, recovered = asyncio.run(overload())
        due = [seconds * i / len(trips) for i in range(len(trips))]
        told = [(trip, at, trip.answered) for at, trip in zip(due, trips, strict=True) if trip.answered is not None]
        assert len(told) == len(trips), "nobody is left without an answer"
        refused = [answered - trip.sent for trip, _, answered in told if trip.status in AT_THE_DOOR]
        accepted = [(trip.status, answered - at) for trip, at, answered in told if trip.status not in AT_THE_DOOR]
        assert {status for status, _ in accepted} <= {200, 504}
        assert len(refused) > 0.5 * len(trips)
        assert len(accepted) >= 10
        in_time = sum(status == 200 and took <= DEADLINE_S for status, took in accepted)
        figures = (
            f"{TIMES} times the capacity for {seconds:g} s: {in_time} of {len(accepted)} accepted in time, "
            f"{len(refused)} refused after {1000 * median(refused):.1f} ms (median); "
            f"full recovery after {recovered:.2f} s"
        )
        print(f"\n{figures}")
        kept = in_time >= (0.97 if seconds > 30 else 0.9) * len(accepted)
        if kept and median(refused) < 0.02 and recovered < RECOVERY_S:
            return
        missed.append(figures)
    pytest.fail("\n".join(missed))
