"""Two replicas behind the balancer at 60 % of what they carry: ten kills, then a rolling restart, and nobody is failed.

`pytest -m soak -s tests/soak` prints the figures; it takes eight minutes of both cores.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from strata.loadtest.closed_loop import run_for
from strata.loadtest.connection import Address
from strata.loadtest.generator import Order, generate
from strata.loadtest.open_loop import OpenRun
from strata.loadtest.texts import load_texts
from strata.model_store.bundle.registry import DEFAULT, find
from tests.balancer.conftest import Balancer, free_ports, haproxy
from tests.balancer.debian import Program
from tests.conftest import RunningServer, ServerFactory

__all__ = ["haproxy"]  # a fixture

pytestmark = pytest.mark.soak

LOAD = 0.6  # of what both replicas carry at full depth
KILLS, APART_S = 10, 12.0
# The images: what runs in them, and by when p99 is back. With torch and a choice a start takes twice the time.
IMAGES = {
    "slim": (("--backend", "onnxruntime", "--dtype", "float32"), 5.0),
    "cpu": (("--backend", "auto", "--dtype", "auto"), 8.0),
}
# Depth may give way while one replica does the work of two.
WAY: tuple[str, dict[str, str], int] = ("/embed?budget_ms=2000", {}, 1)


class House:
    """Two replicas of the default bundle, a core each, and the balancer."""

    def __init__(self, start: ServerFactory, haproxy: Program, folder: Path, image: str) -> None:
        self._start = start
        self.image = image
        self._engine, self.back_s = IMAGES[image]
        self.replicas = [self._serve(port) for port in free_ports(2)]
        for replica in self.replicas:
            replica.await_ready()
        self.balancer = Balancer(haproxy, folder, [replica.port for replica in self.replicas])
        self.balancer.await_up(2)
        self.address = Address.parse(self.balancer.url)
        self.texts = load_texts(None)
        requests = [self.address.post("/embed", {"inputs": text}) for text in self.texts]
        time.sleep(2)  # the balancer's slow start
        asyncio.run(run_for(self.address, requests, 16, 3.0))
        self.capacity = asyncio.run(run_for(self.address, requests, 16, 10.0)).rate

    def kill(self, index: int) -> None:
        """Kill a replica as the kernel would, and start it again as a supervisor would."""
        replica = self.replicas[index]
        replica.process.kill()
        replica.process.wait()
        self.replicas[index] = self._serve(replica.port)

    def restart(self, index: int) -> None:
        """End a replica as an operator would, start it again, and wait until it gets requests."""
        assert self.replicas[index].stop() == 0
        self.replicas[index] = self._serve(self.replicas[index].port).await_ready()
        self.balancer.await_up(2)

    def load(self, seconds: float, meanwhile: Callable[[], None]) -> tuple[OpenRun, list[float]]:
        """Poisson arrivals for so long while something is done to the house; and when each was due."""
        random = np.random.default_rng(1)
        count = round(LOAD * self.capacity * seconds)
        due = np.sort(random.uniform(0, seconds, count)).tolist()
        text = [i % len(self.texts) for i in range(count)]
        order = Order(self.address, [WAY], self.texts, due, [0] * count, text, deadline_s=2.0, patience_s=30)
        with ThreadPoolExecutor(1) as thread:
            doing = thread.submit(meanwhile)
            run = asyncio.run(generate(order))
            doing.result()
        return run, due

    def _serve(self, port: int) -> RunningServer:
        return self._start(find(DEFAULT), "--port", str(port), *self._engine, "--no-log-requests", ready=False)


@pytest.fixture(scope="module", params=IMAGES)
def house(
    request: pytest.FixtureRequest,
    start_session_server: ServerFactory,
    haproxy: Program,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[House]:
    """The house, with what runs in an image."""
    house = House(start_session_server, haproxy, tmp_path_factory.mktemp("house"), request.param)
    yield house
    house.balancer.stop()
    for replica in house.replicas:
        replica.stop()


def p99(latencies: list[float]) -> float:
    return 1000 * float(np.percentile(latencies, 99))


def test_ten_kills_fail_no_request_and_p99_is_back_in_time(house: House) -> None:
    moments: list[float] = []

    def kill() -> None:
        for turn in range(KILLS):
            time.sleep(APART_S)
            moments.append(time.perf_counter())
            house.kill(turn % 2)

    run, due = house.load((KILLS + 1) * APART_S + 1, kill)
    killed = [moment - run.began for moment in moments]
    failed = [trip.status for trip in run.trips if trip.status != 200]
    latency = [((trip.answered or np.inf) - at, at) for trip, at in zip(run.trips, due, strict=True)]
    calm = p99([took for took, at in latency if at < killed[0] - 1])
    by_second = {
        second: p99([t for t, at in latency if any(second <= at - k < second + 1 for k in killed)])
        for second in range(int(APART_S))
    }
    load = f"{len(due)} requests at {LOAD:.0%} of {house.capacity:.0f}/s"
    print(f"\n{house.image}: {load}, {KILLS} kills: {len(failed)} failed")
    print(f"p99 {calm:.0f} ms before; by second after a kill: {', '.join(f'{v:.0f}' for v in by_second.values())} ms")
    assert not failed, run.problems
    assert max(v for second, v in by_second.items() if second >= house.back_s) < 2 * calm + 50


def test_a_rolling_restart_fails_no_request(house: House) -> None:
    def restart() -> None:
        for index in range(2):
            time.sleep(3)
            house.restart(index)

    run, due = house.load(40.0, restart)
    failed = [trip.status for trip in run.trips if trip.status != 200]
    print(f"\n{house.image}: {len(due)} requests during a rolling restart of both: {len(failed)} failed")
    assert not failed, run.problems
