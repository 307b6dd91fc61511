"""SIGTERM while the queue is full: what was accepted is answered, whole, and the server ends with 0 in time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import httpx

from tests.conftest import ServerFactory
from tests.endure.conftest import connect, head, series, until

TEXTS = 16
CLIENTS = 48
DRAIN_S = 30.0  # --drain-seconds, the default


def test_a_full_queue_is_answered_before_the_end(start_server: ServerFactory, tiny_bundle: Path) -> None:
    limits = ("--max-client-batch-size", str(TEXTS), "--max-queue-texts", str(TEXTS * 24), "--max-batch-tokens", "400")
    server = start_server(tiny_bundle, *limits)
    body = {"inputs": ["river bread coffee window " * 12] * TEXTS}

    def ask(_: int) -> httpx.Response:
        return server.client.post("/embed", json=body)

    with ThreadPoolExecutor(CLIENTS) as threads:
        requests = [threads.submit(ask, i) for i in range(CLIENTS)]
        until(lambda: any(r.done() and r.result().status_code == 429 for r in requests), 20)  # it is full
        assert series(server, "te_queue_size") > TEXTS * 12
        began = time.monotonic()
        server.terminate()
        server.await_logged("draining")
        found = [request.result() for request in requests]
    assert server.process.wait(timeout=DRAIN_S) == 0
    assert time.monotonic() - began < DRAIN_S
    answered = [answer for answer in found if answer.status_code == 200]
    assert len(answered) >= 20, "the queue alone held as many"
    assert all(len(answer.json()) == TEXTS for answer in answered)
    refused = [answer for answer in found if answer.status_code != 200]
    assert all(answer.status_code in (429, 503) and "retry-after" in answer.headers for answer in refused)
    assert "drained" in server.text()


def test_whoever_waits_at_the_door_is_answered_before_it_closes(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle)
    ask = head("/embed", 19) + b'{"inputs": "river"}'
    found: Counter[bytes] = Counter()
    ended = threading.Event()

    def knock() -> None:
        while not ended.is_set():
            try:
                connection = connect(server)
            except ConnectionRefusedError:  # it has closed
                return
            with connection:
                connection.sendall(ask)
                try:
                    found[connection.recv(12)] += 1
                except ConnectionResetError:
                    found[b"reset"] += 1

    threads = [threading.Thread(target=knock) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    server.terminate()
    assert server.process.wait(timeout=DRAIN_S) == 0
    ended.set()
    for thread in threads:
        thread.join(timeout=30)
    assert set(found) == {b"HTTP/1.1 200", b"HTTP/1.1 503"}, found


def test_whoever_keeps_a_connection_is_told_that_it_ends(start_server: ServerFactory, tiny_bundle: Path) -> None:
    """Else the next request is on its way when the server closes it: a reset, and no answer."""
    server = start_server(tiny_bundle)
    found: Counter[object] = Counter()

    def ask(_: int) -> None:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
        while True:
            try:
                connection.request("POST", "/embed", b'{"inputs": "river"}')
                answer = connection.getresponse()
                answer.read()
            except OSError as error:
                found[type(error)] += 1
                return
            found[answer.status, answer.will_close] += 1

    with ThreadPoolExecutor(9) as threads:
        asking = [threads.submit(ask, i) for i in range(8)]
        until(lambda: found[200, False] > 100, 20)
        with server.engine_held():
            last = threads.submit(server.client.post, "/embed", json={"inputs": ["river"] * 200})
            until(lambda: series(server, "strata_requests_in_progress") > 8, 20)
            server.terminate()
            server.await_logged("draining")
        assert last.result().headers["connection"] == "close"
        assert server.process.wait(timeout=DRAIN_S) == 0
        for each in asking:
            each.result(timeout=30)
    assert found.keys() <= {(200, False), (200, True), (503, True), ConnectionRefusedError}, found
    assert found[200, True] + found[503, True] >= 8


def test_half_a_request_does_not_hold_the_end_up(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle)
    halves = (b"", b"POST /em", head("/embed", 19) + b'{"inputs"', head("/embed", 19, "Expect: 100-continue"))
    with ExitStack() as stack:
        waiting = [stack.enter_context(connect(server)) for _ in halves]
        for connection, half in zip(waiting, halves, strict=True):
            connection.sendall(half)
        until(lambda: series(server, "process_open_fds") > len(halves), 20)
        began = time.monotonic()
        server.terminate()
        said = [b"".join(iter(partial(connection.recv, 65536), b"")) for connection in waiting]
        assert server.process.wait(timeout=DRAIN_S) == 0
        assert time.monotonic() - began < 4
    told = [answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")[:12] for answer in said]
    assert told == [b"", *[b"HTTP/1.1 503"] * 3]
    assert "Traceback" not in server.text()


def test_a_second_signal_refuses_what_waits_and_ends_at_once(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle)
    with ThreadPoolExecutor(4) as threads, server.engine_held():
        asking = [threads.submit(server.client.post, "/embed", json={"inputs": "river"}) for _ in range(4)]
        until(lambda: series(server, "strata_requests_in_progress") == 4, 20)
        server.terminate()
        server.await_logged("draining")
        server.terminate()
        assert [request.result().status_code for request in asking] == [503] * 4
        assert server.process.wait(timeout=5) == 1
    assert "Traceback" not in server.text()
