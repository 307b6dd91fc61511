"""Clients that connect and do little, many of them: they are hung up on in time, and others are served meanwhile."""

from __future__ import annotations

import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx
import pytest

from tests.conftest import RunningServer, ServerFactory, open_files
from tests.endure.conftest import connect, connections_held, head, series, until

CLIENT_S = 1.0  # --client-seconds; looked at once a second
CROWDS = [2000, pytest.param(10_000, marks=pytest.mark.soak)]
HEAD = b"POST /embed HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def strict(start_session_server: ServerFactory, tiny_bundle: Path) -> RunningServer:
    """A server that does not wait long for its clients."""
    return start_session_server(tiny_bundle, "--client-seconds", str(CLIENT_S))


@pytest.fixture(params=CROWDS)
def crowd(request: pytest.FixtureRequest) -> Iterator[int]:
    """A number of connections, whose ends this process may hold."""
    size: int = request.param
    with connections_held(size):
        yield size


def hung_up(connection: socket.socket) -> bool:
    """Read to the end; whether there is one."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


BEGUN = {
    "nothing": b"",
    "half a head": HEAD,
    "half a header": HEAD + b"X-Slow: ",
    "half a body": head("/embed", 100) + b'{"inputs": "',
    "no body after 100-continue": head("/embed", 100, "Expect: 100-continue"),
}


@pytest.fixture(scope="module")
def heard(strict: RunningServer) -> dict[str, tuple[bytes, float]]:
    """What those who begin a request and send no more are told, and after how many seconds; all at once."""

    def wait(begun: bytes) -> tuple[bytes, float]:
        with connect(strict, timeout=10) as connection:
            began = time.monotonic()
            connection.sendall(begun)
            said = b"".join(iter(lambda: connection.recv(65536), b""))
            return said, time.monotonic() - began

    with ThreadPoolExecutor(len(BEGUN)) as threads:
        return dict(zip(BEGUN, threads.map(wait, BEGUN.values()), strict=True))


@pytest.mark.parametrize("begun", BEGUN)
def test_a_request_that_is_not_finished_is_told_so_and_hung_up_on(
    heard: dict[str, tuple[bytes, float]], begun: str
) -> None:
    said, took = heard[begun]
    assert CLIENT_S * 0.9 < took < CLIENT_S + 4
    said = said.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 408 ") if BEGUN[begun] else said == b""
    assert not BEGUN[begun] or b"(--client-seconds)" in said


def test_bytes_that_trickle_in_win_no_time(strict: RunningServer) -> None:
    with connect(strict) as connection:
        began = time.monotonic()
        connection.sendall(HEAD)
        with suppress(ConnectionError):
            while time.monotonic() - began < CLIENT_S + 6:
                connection.sendall(b"X-Slow: 1\r\n")
                time.sleep(0.1)
        assert time.monotonic() - began < CLIENT_S + 5


def test_a_client_that_takes_its_time_within_the_limit_is_served(strict: RunningServer) -> None:
    body = b'{"inputs": "river"}'
    with connect(strict) as connection:
        for _ in range(4):  # each request has the time anew
            for part in (head("/embed", len(body)), body[:5], body[5:]):
                connection.sendall(part)
                time.sleep(CLIENT_S / 10)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_long_wait_for_the_engine_is_not_the_clients(strict: RunningServer) -> None:
    """What takes the server longer than --client-seconds is answered all the same."""
    with ThreadPoolExecutor(1) as threads:
        with strict.engine_held():
            asked = threads.submit(strict.client.post, "/embed", json={"inputs": ["river"] * 100})
            time.sleep(CLIENT_S + 1.2)  # a sweep later
        assert asked.result().status_code == 200
        assert len(asked.result().json()) == 100


def test_whoever_resets_a_connection_with_several_requests_on_it_leaves_no_trace(strict: RunningServer) -> None:
    body = b'{"inputs": [' + b",".join([b'"river bank"'] * 200) + b"]}"
    for _ in range(10):
        with connect(strict) as connection:
            connection.sendall((head("/embed", len(body)) + body) * 3)
            time.sleep(0.01)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: series(strict, "strata_requests_in_progress") == 0, 20)
    log = strict.log.read_text()
    assert "Traceback" not in log
    assert "ASGI callable" not in log


def test_an_answer_that_nobody_takes_is_dropped(strict: RunningServer) -> None:
    body = b'{"inputs": [' + b",".join([b'"river"'] * 1000) + b"]}"
    before = series(strict, "process_open_fds")
    with ExitStack() as stack:
        for _ in range(5):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", strict.port))
            # A second request after the first, so that answers pile up behind each other, too.
            connection.sendall((head("/embed", len(body)) + body) * 2)
        until(lambda: series(strict, "process_open_fds") >= before + 5, 20)
        until(lambda: series(strict, "process_open_fds") <= before, 20)


@pytest.mark.parametrize("place", ["port", "uds"])
def test_hundreds_may_wait_to_be_let_in(
    start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path, place: str
) -> None:
    """Who is one too many is not heard, and knocks again after a second."""
    path = tmp_path / "socket"
    server = start_server(tiny_bundle, *(("--uds", str(path)) if place == "uds" else ()))
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            for _ in range(400):
                if place == "uds":
                    connection = stack.enter_context(socket.socket(socket.AF_UNIX))
                    connection.settimeout(0.5)
                    connection.connect(str(path))
                else:
                    stack.enter_context(connect(server, timeout=0.5))
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    assert server.client.post("/embed", json={"inputs": "river"}).status_code == 200


def test_thousands_of_idle_and_half_open_connections_leave_others_served(
    start_server: ServerFactory, tiny_bundle: Path, crowd: int
) -> None:
    server = start_server(tiny_bundle)
    with ExitStack() as stack:
        for index in range(crowd):
            connection = stack.enter_context(connect(server))
            if index % 2:
                connection.sendall(HEAD)
        until(lambda: series(server, "process_open_fds") > crowd, 30)
        times = []
        for _ in range(20):
            began = time.monotonic()
            assert server.client.post("/embed", json={"inputs": "river"}).status_code == 200
            times.append(time.monotonic() - began)
        assert sorted(times)[10] < 0.5
        print(f"\n{crowd} connections: a request beside them takes {1000 * sorted(times)[10]:.1f} ms (median of 20)")
    until(lambda: series(server, "process_open_fds") < 200, 30)


def test_beyond_the_limit_of_files_the_longest_waiting_makes_room(
    start_server: ServerFactory, tiny_bundle: Path
) -> None:
    server = start_server(tiny_bundle, first=open_files(400, 400))
    with ExitStack() as stack:
        crowd = [stack.enter_context(connect(server)) for _ in range(500)]
        # The fixture's client has a connection open that waits longer than all of them: it may be closed at any moment.
        client = stack.enter_context(httpx.Client(base_url=server.url))
        for _ in range(5):
            assert client.post("/embed", json={"inputs": "river"}).status_code == 200
        assert hung_up(crowd[0])
        crowd[-1].sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n")
        assert crowd[-1].recv(100).startswith(b"HTTP/1.1 200"), "the newest is still open"


def test_the_soft_limit_of_files_is_raised(start_server: ServerFactory, tiny_bundle: Path) -> None:
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    server = start_server(tiny_bundle, first=open_files(200, allowed))
    soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    assert soft == min(hard, 65_536) if hard != resource.RLIM_INFINITY else soft == 65_536
