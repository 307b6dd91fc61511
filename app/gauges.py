"""Where the gauges of a server are read when somebody scrapes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from strata.app.engine.memory import resident_bytes
from strata.app.in_flight import InFlight
from strata.app.served import Served
from strata.app.telemetry import logs
from strata.app.telemetry.metrics import Gauges
from strata.app.writers import Writers


def gauges_of(served: Served, in_flight: InFlight, writers: Writers, ready: Callable[[], bool]) -> Gauges:
    """The gauges of a server whose model is open."""
    scheduler, tokenizer, pool = served.scheduler, served.tokenizer, served.pool
    return Gauges(
        in_progress=lambda: len(in_flight),
        tasks=lambda: len(asyncio.all_tasks()),
        queue_texts=lambda: scheduler.waiting_tickets,
        queue_tokens=lambda: scheduler.waiting_tokens,
        queue_oldest_s=lambda: scheduler.oldest_s,
        tokenizing=lambda: tokenizer.backlog,
        workers=lambda: (pool.choice.workers if pool.choice else 0, pool.size, pool.idle),
        busy_s=pool.busy_seconds,
        depth=lambda: scheduler.depth,
        ready=ready,
        log_dropped=logs.dropped,
        resident_bytes=lambda: {"front": resident_bytes(), **pool.memory_bytes(), **writers.memory_bytes()},
    )
