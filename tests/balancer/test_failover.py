"""The balancer's configuration holds what it says: replicas die and are replaced, and no client notices."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.balancer.conftest import Balancer, free_ports
from tests.balancer.debian import Program
from tests.balancer.load import LARGE, Load
from tests.conftest import RunningServer, ServerFactory
from tests.endure.conftest import until

Start = Callable[[int], RunningServer]


@pytest.fixture(scope="module")
def start(start_session_server: ServerFactory, tiny_bundle: Path) -> Start:
    """Starts a replica on a port."""
    return lambda port: start_session_server(tiny_bundle, "--port", str(port), ready=False)


@pytest.fixture(scope="module")
def replicas(start: Start) -> list[RunningServer]:
    """Two replicas; a test that ends one starts it again."""
    return [replica.await_ready() for replica in [start(port) for port in free_ports(2)]]


@pytest.fixture(scope="module")
def balancer(
    haproxy: Program, replicas: list[RunningServer], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Balancer]:
    """The balancer before them, with both up."""
    balancer = Balancer(haproxy, tmp_path_factory.mktemp("balancer"), [replica.port for replica in replicas])
    try:
        balancer.await_up(2)
        yield balancer
    finally:
        balancer.stop()


def served(balancer: Balancer) -> dict[str, int]:
    return {name: int(row["hrsp_2xx"] or 0) for name, row in balancer.rows().items()}


def test_what_the_balancer_itself_tells(balancer: Balancer) -> None:
    assert httpx.get(f"{balancer.url}/info").status_code == 200
    assert httpx.get(f"{balancer.url}/metrics").status_code == 404, "a replica's own figures, of one nobody chose"
    assert httpx.get(f"{balancer.url}/balancer/ready").status_code == 200
    own = httpx.get(f"{balancer.stats_url}/metrics").text
    assert 'haproxy_server_status{proxy="strata",server="replica-0",state="UP"} 1' in own
    named = httpx.post(f"{balancer.url}/embed", json={"inputs": "river"}, headers={"X-Request-Id": "mine"})
    assert named.headers["x-request-id"] == "mine"


def test_a_killed_replica_costs_no_client_an_error_and_comes_back(
    balancer: Balancer, replicas: list[RunningServer], start: Start
) -> None:
    with Load(balancer.url) as load, Load(balancer.url, 1, body=LARGE) as large:
        until(lambda: min(served(balancer)[f"replica-{i}"] for i in (0, 1)) > 0 and load.answered > 30, 60)
        before = served(balancer)
        replicas[0].process.kill()
        replicas[0].process.wait()
        killed = time.monotonic()
        balancer.await_up(1)
        assert time.monotonic() - killed < 2
        until(lambda: served(balancer)["replica-1"] > before["replica-1"], 20)  # the other one carries on
        replicas[0] = start(replicas[0].port)
        balancer.await_up(2)
        back = served(balancer)["replica-0"]
        until(lambda: served(balancer)["replica-0"] > back, 20)  # it gets its share again
        until(lambda: load.answered > 50 and large.answered > 2, 60)
    assert load.failures + large.failures == []
    assert int(balancer.rows()["BACKEND"]["wretr"]) > 0, "some request was in the killed replica's hands"


def test_a_rolling_restart_fails_no_request(balancer: Balancer, replicas: list[RunningServer], start: Start) -> None:
    with Load(balancer.url) as load, Load(balancer.url, 1, body=LARGE) as large:
        for i, replica in enumerate(replicas):
            until(partial(lambda before: load.answered > before + 10, load.answered), 60)
            assert replica.stop() == 0
            replicas[i] = start(replica.port)
            replicas[i].await_ready()
            balancer.await_up(2)
        until(lambda: load.answered > 50 and large.answered > 2, 60)
    assert load.failures + large.failures == []


def test_without_a_replica_the_balancer_says_so(balancer: Balancer, replicas: list[RunningServer]) -> None:
    """The last of these: it leaves none."""
    for replica in replicas:
        replica.stop()
    balancer.await_up(0)
    assert httpx.get(f"{balancer.url}/balancer/ready").status_code == 503
    assert httpx.post(f"{balancer.url}/embed", json={"inputs": "river"}).status_code == 503
