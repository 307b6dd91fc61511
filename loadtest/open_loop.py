"""Open-loop load: each request goes out at its own time, whether or not earlier ones were answered.

A closed loop waits while the server is slow and so leaves out the very requests that would have been late (coordinated
omission). Here latency counts from the moment a request was *due*; what the client itself is late is part of it.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from strata.loadtest.connection import Address, Connection, LoadError, Response

_SETTLE_S = 0.3  # from the last connection opened to the first request
IDLE_S = 4.0  # servers hang up after 5 s or more (uvicorn's default); a request must not cross that on its way
_UNSENT = -1.0


@dataclass(slots=True)
class Trip:
    """One request. Seconds from the start of the run."""

    sent: float = _UNSENT
    answered: float | None = None  # None: no answer came
    status: int = 0  # 0: no answer
    layers: int | None = None  # as the answer's headers say
    quality: float | None = None
    tier: str | None = None
    task: str | None = None  # that the quality is of


@dataclass(slots=True)
class OpenRun:
    """What came of a schedule."""

    trips: list[Trip]
    began: float = 0.0  # reading of perf_counter when the first second began; on Linux all processes read the same
    cpu_s: float = 0.0  # CPU time this process took, from the first request to the last answer
    took_s: float = 0.0
    opened: int = 0  # connections opened on the way, because all were in use
    problems: dict[int, str] = field(default_factory=dict)  # status -> the first answer with it that is not 200


class _Connections:
    """Keep-alive connections, used in turn so that none stays idle for long; more are opened when all are in use."""

    def __init__(self, address: Address, idle_s: float) -> None:
        self._address = address
        self._idle_s = idle_s
        self._free: deque[tuple[Connection, float]] = deque()  # and since when
        self.opened = 0

    async def prepare(self, count: int) -> None:
        for _ in range(count):
            self.give_back(await Connection.open(self._address))

    async def take(self) -> Connection:
        while self._free:
            connection, since = self._free.popleft()
            if connection.open_still and time.perf_counter() - since < self._idle_s:
                return connection
            connection.close()
        self.opened += 1
        return await Connection.open(self._address)

    def give_back(self, connection: Connection) -> None:
        self._free.append((connection, time.perf_counter()))

    def close(self) -> None:
        for connection, _ in self._free:
            connection.close()


async def run_open(
    address: Address,
    requests: Sequence[bytes],
    due: Sequence[float],
    *,
    connections: int,
    patience_s: float,
    idle_s: float = IDLE_S,
    heard: Callable[[int, Response], object] = lambda number, response: None,
) -> OpenRun:
    """Send each request when it is due (seconds from the start, ascending), and await every answer.

    A request that has no answer ``patience_s`` after the last was due counts as unanswered. ``heard`` gets each answer
    and the number of its request. A connection idle for ``idle_s`` is not used again.
    """
    pool = _Connections(address, idle_s)
    await pool.prepare(connections)
    run = OpenRun([Trip() for _ in requests])
    tasks: set[asyncio.Task[None]] = set()
    gc.collect(1)  # as in closed_loop
    gc.disable()  # a collection here would be counted as the server's latency
    try:
        await asyncio.sleep(_SETTLE_S)
        begin, cpu = time.perf_counter(), time.process_time()
        for number, (request, moment) in enumerate(zip(requests, due, strict=True)):
            wait = begin + moment - time.perf_counter()
            if wait > 0:
                await asyncio.sleep(wait)
            task = asyncio.create_task(_travel(number, request, pool, begin, run, heard))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        if tasks:
            _, unanswered = await asyncio.wait(tasks, timeout=patience_s)
            for task in unanswered:
                task.cancel()
        run.took_s = time.perf_counter() - begin
        run.cpu_s = time.process_time() - cpu
        run.began = begin
        run.opened = pool.opened
    finally:
        gc.enable()
        pool.close()
    return run


async def _travel(
    number: int,
    request: bytes,
    pool: _Connections,
    begin: float,
    run: OpenRun,
    heard: Callable[[int, Response], object],
) -> None:
    trip = run.trips[number]
    try:
        connection = await pool.take()
        trip.sent = time.perf_counter() - begin
        response = await connection.send(request)
    except (LoadError, OSError) as error:
        run.problems.setdefault(0, str(error))
        return
    trip.answered = time.perf_counter() - begin
    pool.give_back(connection)
    trip.status = response.status
    heard(number, response)
    trip.tier = response.header("x-strata-tier")
    if response.status == 200:
        if layers := response.header("x-strata-layers"):
            trip.layers = int(layers)
        if quality := response.header("x-strata-quality"):
            trip.quality = float(quality)
            trip.task = response.header("x-strata-task")
    else:
        run.problems.setdefault(response.status, response.body[:300].decode(errors="replace"))
