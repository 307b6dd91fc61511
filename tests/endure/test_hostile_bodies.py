"""Bodies made to hurt are refused with a reason, soon, and cost no more memory than is documented."""

from __future__ import annotations

import gzip
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.conftest import RunningServer, ServerFactory
from tests.endure.conftest import MB, connect, head, resident, series, until

LIMIT = 2_000_000  # --payload-limit
SOON_S = 5.0  # of a machine that others use; what these bodies once took was many times as long

BODIES = {
    "deep lists": b'{"inputs": ' + b"[" * 500_000 + b"]" * 500_000 + b"}",
    "deep objects": b'{"inputs": ' + b'{"a":' * 200_000 + b"1" + b"}" * 200_000 + b"}",
    "100,000 inputs": json.dumps({"inputs": ["a"] * 100_000}).encode(),
    "a million numbers": b'{"inputs": [' + b",".join([b"1.5"] * 480_000) + b"]}",
    "half a million empty lists": b'{"inputs": [' + b",".join([b"[]"] * 600_000) + b"]}",
    "lists of lists of text": b'{"inputs": [' + b",".join([b'["a"]'] * 300_000) + b"]}",
    "a list of exits": b'{"inputs": "a", "exits": [' + b",".join([b"1"] * 900_000) + b"]}",
    "a number of a million digits": b'{"inputs": "a", "layers": ' + b"1" * 1_000_000 + b"}",
    "a number beyond all floats": b'{"inputs": "a", "budget_ms": 1e999999}',
    "a negative number beyond": b'{"inputs": "a", "min_quality": -1e999999}',
    "a budget of NaN": b'{"inputs": "a", "budget_ms": NaN}',
    "a budget of infinity": b'{"inputs": "a", "budget_ms": Infinity}',
    "a quality of text": b'{"inputs": "a", "min_quality": "NaN"}',
    "layers beyond 64 bits": b'{"inputs": "a", "layers": 36893488147419103232}',
    "layers of true": b'{"inputs": "a", "layers": true}',
    "token ids beyond 64 bits": b'{"inputs": [[36893488147419103232]]}',
    "negative token ids": b'{"inputs": [[-1]]}',
    "a lone surrogate": b'{"inputs": "\\ud800"}',
    "a lone surrogate in a name": b'{"inputs": "a", "tier": "\\udfff"}',
    "bytes that are no UTF-8": b'{"inputs": "\xff\xfe\xed\xa0\x80"}',
    "a null": b"null",
    "nothing": b"",
    "an object of objects": b'{"inputs": {"a": {"b": {}}}}',
    "half a body": b'{"inputs": "a',
    "two bodies": b'{"inputs": "a"}{"inputs": "a"}',
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize(("path", "field"), [("/embed", b"inputs"), ("/v1/embeddings", b"input")])
def test_a_hostile_body_is_refused_with_a_reason(victim: RunningServer, name: str, path: str, field: bytes) -> None:
    body = BODIES[name].replace(b'"inputs"', b'"' + field + b'"', 1)
    assert len(body) <= LIMIT, "or it would be refused for its size alone"
    began = time.monotonic()
    response = victim.client.post(path, content=body)
    assert time.monotonic() - began < SOON_S
    error = response.json()["error"]
    assert response.status_code in (400, 413, 422, 429), response.text[:200]
    assert 5 < len(error if isinstance(error, str) else error["message"]) < 500
    assert victim.client.post("/embed", json={"inputs": "river"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/similarity", b'{"inputs": {"source_sentence": "a", "sentences": [' + b",".join([b"1.5"] * 480_000) + b"]}}"),
        ("/tokenize", b'{"inputs": [' + b",".join([b"1.5"] * 480_000) + b"]}"),
        ("/decode", b'{"ids": [' + b",".join([b'["a"]'] * 300_000) + b"]}"),
        ("/decode", b'{"ids": [[36893488147419103232]]}'),
        ("/tokenize", b'{"inputs": "\\udc00"}'),
    ],
)
def test_the_other_operations_refuse_them_too(victim: RunningServer, path: str, body: bytes) -> None:
    began = time.monotonic()
    response = victim.client.post(path, content=body)
    assert (response.status_code, time.monotonic() - began < SOON_S) == (422, True), response.text[:200]


@pytest.mark.parametrize(
    "ask",
    ["budget_ms=nan", "budget_ms=inf", "budget_ms=-1", "budget_ms=1e999", "min_quality=nan", "layers=9999999999999"],
)
def test_hostile_budgets_outside_the_body_are_refused(victim: RunningServer, ask: str) -> None:
    name, value = ask.split("=")
    assert victim.client.post(f"/embed?{ask}", json={"inputs": "a"}).status_code == 422
    header = {"X-Strata-" + name.replace("_", "-"): value}
    assert victim.client.post("/embed", json={"inputs": "a"}, headers=header).status_code == 422


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a TLS handshake
    ],
)
def test_what_is_no_http_is_hung_up_on(victim: RunningServer, raw: bytes) -> None:
    with connect(victim) as connection:
        connection.sendall(raw)
        answer = connection.recv(100)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 404", b"HTTP/1.1 4")), answer
    assert victim.client.get("/ready").status_code == 200


ENDLESS = {
    "a path": b"GET /" + b"a" * 20_000_000,
    "headers": b"GET /ready HTTP/1.1\r\n" + b"a: b\r\n" * 3_000_000,
    "a header's name": b"GET /ready HTTP/1.1\r\n" + b"a" * 20_000_000,
    "a header's value": b"GET /ready HTTP/1.1\r\na: " + b"b" * 20_000_000,
    "a head that ends": b"GET /ready HTTP/1.1\r\na: " + b"b" * 70_000 + b"\r\n\r\n",
    "trailers": b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 3_000_000,
    "a chunk's extension": b"POST /embed HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;" + b"a" * 20_000_000,
    "requests ahead of their answers": b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 500_000,
}


def told(victim: RunningServer, request: bytes) -> bytes:
    """All that is answered to one who reads nothing before everything is sent."""
    said = b""
    with connect(victim) as connection:
        connection.sendall(request)
        while more := connection.recv(65536):
            said += more
    return said


@pytest.mark.parametrize("path", ["/embed", "/nothing"])
def test_who_sends_on_after_a_refusal_is_told_of_it_before_the_connection_ends(
    victim: RunningServer, path: str
) -> None:
    body = b"a" * 18 * MB
    lines = (f"POST {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}", "", "")
    said = told(victim, "\r\n".join(lines).encode() + body)
    assert said.startswith(b"HTTP/1.1 413" if path == "/embed" else b"HTTP/1.1 404")


def test_who_sends_on_for_ever_after_a_refusal_is_hung_up_on(victim: RunningServer) -> None:
    began = time.monotonic()
    with connect(victim) as connection, suppress(ConnectionError):
        connection.sendall(b"no request\r\n\r\n")
        while time.monotonic() - began < SOON_S:
            connection.sendall(b"a" * 1000)
            time.sleep(0.01)
    assert time.monotonic() - began < SOON_S


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_is_hung_up_on_soon(victim: RunningServer, name: str) -> None:
    before = resident(victim)
    began = time.monotonic()
    said = told(victim, ENDLESS[name])
    assert time.monotonic() - began < SOON_S
    assert b"HTTP/1.1 400" in said
    assert said.count(b"HTTP/1.1 200") < 20_000
    assert resident(victim) - before < 20 * MB
    assert victim.client.get("/ready").status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip"])
def test_compressed_bodies_are_refused_unread(victim: RunningServer, encoding: str) -> None:
    bomb = gzip.compress(b'{"inputs": "' + b"a" * (200 * MB) + b'"}', compresslevel=1) if encoding == "gzip" else b"x"
    before = resident(victim)
    response = victim.client.post("/embed", content=bomb[:LIMIT], headers={"Content-Encoding": encoding})
    assert response.status_code == 415
    assert encoding in response.json()["error"]
    assert resident(victim) - before < 10 * MB
    assert victim.client.post("/v1/embeddings", content=b"x", headers={"Content-Encoding": encoding}).status_code == 415


def test_ten_megabytes_of_text_are_refused_and_not_kept(victim: RunningServer) -> None:
    before = resident(victim)
    for path, field in (("/embed", "inputs"), ("/v1/embeddings", "input"), ("/tokenize", "inputs")):
        response = victim.client.post(path, json={field: "river " * 1_700_000})
        assert response.status_code == 413
        assert "--payload-limit" in response.text
    assert resident(victim) - before < 20 * MB


@pytest.mark.parametrize(
    ("path", "body"), [("/tokenize", {"inputs": "a " * 101_000}), ("/decode", {"ids": [7] * 200_001})]
)
def test_tokens_are_described_of_so_much_only(victim: RunningServer, path: str, body: object) -> None:
    response = victim.client.post(path, json=body)
    assert response.status_code == 422
    assert "at most 200000" in response.json()["error"]


def test_the_largest_bodies_accepted_cost_a_bounded_amount_once(victim: RunningServer) -> None:
    """All of --payload-limit, as one text, one word, many texts, and token ids; what it costs is used again."""
    text = "river " * ((LIMIT - 100) // 6)

    def send_all() -> int:
        for path, body in (
            ("/embed", {"inputs": text}),
            ("/embed", {"inputs": text.replace(" ", "")}),
            ("/v1/embeddings", {"input": [text[:5900]] * 300, "layers": 1}),
            ("/embed", {"inputs": [1] * 600_000}),
            ("/tokenize", {"inputs": text[:200_000]}),
        ):
            began = time.monotonic()
            assert victim.client.post(path, json=body).status_code in (200, 429)
            assert time.monotonic() - began < 2 * SOON_S
        return resident(victim)

    before = resident(victim)
    once = send_all()
    assert once - before < 100 * LIMIT
    assert send_all() - once < (once - before) / 2


def test_all_bodies_together_are_bounded(start_server: ServerFactory, tiny_bundle: object) -> None:
    """Many clients that each send all but the end of a body: beyond --payload-memory they are turned away."""
    server = start_server(tiny_bundle, "--payload-memory", "8000000")
    before = resident(server)
    almost = head("/embed", LIMIT) + b'{"inputs": "' + b"a" * (LIMIT - 100)
    connections = [connect(server) for _ in range(20)]

    def send(connection: socket.socket) -> bytes:
        try:
            connection.sendall(almost)
            connection.settimeout(1.5)
            return connection.recv(12)
        except TimeoutError:
            return b"held"
        except ConnectionError:
            return b"refused"

    with ThreadPoolExecutor(20) as threads:
        found = list(threads.map(send, connections))
    held, refused = found.count(b"held"), sum(answer in (b"HTTP/1.1 429", b"refused") for answer in found)
    assert held + refused == 20
    assert 1 <= held <= 4, found
    assert resident(server) - before < 60 * MB
    for connection in connections:
        connection.close()
    until(lambda: server.client.post("/embed", json={"inputs": "a" * 1_900_000}).status_code == 200, 10)
    assert series(server, "te_queue_size") == 0
