"""Closed-loop load: each connection sends its next request when the last one is answered."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from statistics import median

from strata.loadtest.connection import Address, Connection, LoadError
from strata.loadtest.figures import percentile

_OK = (200,)


@dataclass(slots=True)
class Sample:
    """What one stretch of load showed. Times in seconds."""

    begin: float = 0.0
    end: float = 0.0  # of the stretch measured; answers still awaited then are counted by their share inside
    spans: list[tuple[float, float]] = field(default_factory=list)  # (sent, answered) of every request
    client_cpu: float = 0.0  # share of one core this process took

    @property
    def seconds(self) -> float:
        """Length of the stretch."""
        return self.end - self.begin

    @property
    def latencies(self) -> list[float]:
        """Seconds of every request that was answered inside the stretch."""
        return [answered - sent for sent, answered in self.spans if answered <= self.end]

    @property
    def rate(self) -> float:
        """Requests a second. One that straddles the edge counts for the part of its time inside."""
        inside = sum((min(answered, self.end) - sent) / (answered - sent) for sent, answered in self.spans)
        return inside / self.seconds

    @property
    def p50(self) -> float:
        """Median latency."""
        return median(self.latencies)

    @property
    def p99(self) -> float:
        """The 99th percentile of latency."""
        return percentile(self.latencies, 0.99)


async def run_once(
    address: Address, requests: Sequence[bytes], connections: int, statuses: Collection[int] = _OK
) -> Sample:
    """Send every request once; the sample ends with the last answer. Raises LoadError for another status."""
    return await _run(address, iter(requests), connections, None, statuses)


async def run_for(address: Address, requests: Sequence[bytes], connections: int, seconds: float) -> Sample:
    """Send the requests in order, round and round, for so many seconds."""
    return await _run(address, cycle(requests), connections, seconds, _OK)


async def _run(
    address: Address, requests: Iterator[bytes], connections: int, seconds: float | None, statuses: Collection[int]
) -> Sample:
    opened = [await Connection.open(address) for _ in range(connections)]
    sample = Sample()
    gc.collect(1)  # not of what has lived for long: with torch imported that takes 0.3 s, each time
    gc.disable()  # a collection in the client would be counted as the server's latency
    try:
        cpu = _cpu_seconds()
        sample.begin = time.perf_counter()
        deadline = None if seconds is None else sample.begin + seconds
        await asyncio.gather(*(_drive(connection, requests, deadline, sample.spans, statuses) for connection in opened))
        finished = time.perf_counter()
        sample.client_cpu = (_cpu_seconds() - cpu) / (finished - sample.begin)
        sample.end = deadline or finished
    finally:
        gc.enable()
        for connection in opened:
            connection.close()
    return sample


async def _drive(
    connection: Connection,
    requests: Iterator[bytes],
    deadline: float | None,
    spans: list[tuple[float, float]],
    statuses: Collection[int],
) -> None:
    for request in requests:
        sent = time.perf_counter()
        if deadline is not None and sent >= deadline:
            return
        response = await connection.send(request)
        if response.status not in statuses:
            raise LoadError(f"status {response.status}: {response.body[:300].decode(errors='replace')}")
        spans.append((sent, time.perf_counter()))


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
