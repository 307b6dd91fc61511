"""Promise 4: overload is refused at the door, whole; a caller that has left costs nothing more."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.conftest import RunningServer, ServerFactory
from tests.endure.conftest import until


@pytest.fixture(scope="module")
def small(start_session_server: ServerFactory, tiny_bundle: Path) -> RunningServer:
    """A server with little room."""
    limits = {
        "--max-client-batch-size": "4",
        "--max-queue-texts": "6",
        "--max-queue-tokens": "200",
        "--payload-limit": "5000",
    }
    return start_session_server(tiny_bundle, *(word for pair in limits.items() for word in pair), "--no-auto-truncate")


def test_too_many_texts_are_refused_before_anything_is_run(small: RunningServer) -> None:
    response = small.client.post("/embed", json={"inputs": ["a"] * 5})
    assert response.status_code == 422
    assert response.json() == {"error": "batch size 5 > maximum allowed batch size 4", "error_type": "Validation"}
    response = small.client.post("/v1/embeddings", json={"input": ["a"] * 5})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "input"


def test_a_sentence_may_be_compared_with_as_many_as_a_request_may_have(small: RunningServer) -> None:
    def compare(sentences: int) -> int:
        inputs = {"source_sentence": "a", "sentences": ["b"] * sentences}
        return small.client.post("/similarity", json={"inputs": inputs}).status_code

    assert [compare(4), compare(5)] == [200, 422]


def test_what_does_not_fit_in_the_queue_is_refused_whole_with_retry_after(small: RunningServer) -> None:
    def crowd(path: str, field: str) -> httpx.Response:
        body = {field: ["river " * 5] * 4}
        with ThreadPoolExecutor(24) as threads:
            answers = list(threads.map(lambda _: small.client.post(path, json=body), range(120)))
        assert {answer.status_code for answer in answers} == {200, 429}
        return next(answer for answer in answers if answer.status_code == 429)

    response = crowd("/embed", "inputs")
    assert response.json()["error_type"] == "Overloaded"
    assert int(response.headers["retry-after"]) >= 1
    response = crowd("/v1/embeddings", "input")
    assert response.json()["error"]["code"] == "rate_limit_exceeded"
    assert int(response.headers["retry-after"]) >= 1


def test_what_no_queue_would_have_room_for_is_not_told_to_come_back(small: RunningServer) -> None:
    response = small.client.post("/embed", json={"inputs": ["river " * 12] * 4})
    assert response.status_code == 422
    assert "200 tokens (--max-queue-tokens)" in response.json()["error"]


def test_the_servers_own_truncation_default_holds(small: RunningServer) -> None:
    assert small.client.post("/embed", json={"inputs": "river " * 100}).status_code == 422


@pytest.mark.parametrize(("path", "shape"), [("/embed", "error_type"), ("/v1/embeddings", "error")])
def test_a_body_over_the_limit_is_refused(small: RunningServer, path: str, shape: str) -> None:
    response = small.client.post(path, json={"inputs": "a" * 6000})
    assert response.status_code == 413
    assert shape in response.json()
    assert "5000 bytes" in response.text


def test_a_body_announced_over_the_limit_is_refused_without_being_read(small: RunningServer) -> None:
    with socket.create_connection(("127.0.0.1", small.port), timeout=5) as connection:
        connection.sendall(b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n{")
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(small: RunningServer) -> None:
    response = small.client.post("/embed", content=iter([b'{"inputs": "', *[b"a" * 1000] * 50]))
    assert response.status_code == 413


def test_no_more_requests_than_there_are_slots(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, "--max-concurrent-requests", "1")

    async def crowd() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            body = {"inputs": ["river bread coffee window " * 10] * 200}
            return await asyncio.gather(*(client.post("/embed", json=body) for _ in range(6)))

    found = asyncio.run(crowd())
    assert {response.status_code for response in found} == {200, 429}
    assert all(int(r.headers["retry-after"]) >= 1 for r in found if r.status_code == 429)


def test_a_client_that_leaves_costs_nothing_more(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, "--max-batch-tokens", "200")
    body = json.dumps({"inputs": ["river bread coffee window " * 10] * 400}).encode()
    head = f"POST /embed HTTP/1.1\r\nHost: x\r\nX-Request-Id: gone\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    def waiting() -> float:
        lines = server.client.get("/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("te_queue_size "))

    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head + body)
        deadline = time.monotonic() + 20
        while waiting() == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        queued = waiting()
    assert queued > 50
    server.await_logged("id=gone .*status=499")
    assert waiting() == 0
    assert server.client.post("/embed", json={"inputs": "river"}).status_code == 200


def test_a_client_that_leaves_while_its_texts_are_tokenized_is_noticed(
    start_server: ServerFactory, tiny_bundle: Path
) -> None:
    server = start_server(tiny_bundle)
    body = json.dumps({"inputs": ["caf\u00e9 river bread coffee window " * 40] * 1000}).encode()
    head = f"POST /embed HTTP/1.1\r\nHost: x\r\nX-Request-Id: gone\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with server.engine_held():
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head + body)
            deadline = time.monotonic() + 20
            while "strata_tokenizer_backlog 1" not in server.client.get("/metrics").text:
                assert time.monotonic() < deadline
        server.await_logged("id=gone .*status=499")  # and not once the engine, which stands still, has answered


def test_a_client_that_leaves_is_noticed_however_its_body_came(start_server: ServerFactory, tiny_bundle: Path) -> None:
    """The last piece of a body may be so large that reading pauses, while the front waits for it."""
    server = start_server(tiny_bundle)
    body = json.dumps({"inputs": ["river " * 20] * 1000}).encode()
    head = f"POST /embed HTTP/1.1\r\nHost: x\r\nX-Request-Id: gone\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with server.engine_held(), socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head + body[:1000])
        time.sleep(0.2)  # until the front waits for the rest
        os.kill(server.process.pid, signal.SIGSTOP)
        connection.sendall(body[1000:])  # and then finds all of it at once
        os.kill(server.process.pid, signal.SIGCONT)
        until(lambda: re.search("^te_queue_size [1-9]", server.client.get("/metrics").text, re.M), 20)
        connection.close()
        assert "status=499" in server.await_logged("id=gone .*")[0]
