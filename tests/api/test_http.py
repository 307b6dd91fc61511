"""HTTP as RFC 9110 has it: what clients, pools and proxies really send, through bare sockets where no client would."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import RunningServer, ServerFactory
from tests.endure.conftest import connect

BODY = b'{"inputs": "river"}'
CHUNKED = b"7\r\n" + BODY[:7] + b"\r\nc\r\n" + BODY[7:] + b"\r\n0\r\n\r\n"
OFFERS = [
    "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    "connection: keep-alive, upgrade\r\nUPGRADE: websocket\r\nSec-WebSocket-Version: 13",
    "Upgrade: TLS/1.2, foo/2\r\nConnection: UPGRADE",
]


def exchange(server: RunningServer, sent: bytes, *, answers: int = 1, step: int = 0) -> list[tuple[int, bytes]]:
    """Send bytes, ``step`` at a time if given; (status, body) of so many answers."""
    with connect(server) as connection:
        for start in range(0, len(sent), step or len(sent)):
            connection.sendall(sent[start : start + (step or len(sent))])
            if step:
                time.sleep(0.001)
        stream, found = connection.makefile("rb"), []
        for _ in range(answers):
            status = int(stream.readline().split()[1])
            head = b"".join(iter(stream.readline, b"\r\n"))
            length = re.search(rb"content-length: (\d+)", head)
            found.append((status, stream.read(int(length[1])) if length else b""))
    return found


@pytest.mark.parametrize("offer", OFFERS, ids=["h2c", "websocket", "others"])
@pytest.mark.parametrize("step", [0, 7], ids=["at once", "in pieces"])
def test_an_offered_upgrade_is_ignored_whatever_the_method_and_framing(
    server: RunningServer, offer: str, step: int
) -> None:
    sized = f"POST /embed HTTP/1.1\r\nHost: x\r\n{offer}\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    chunked = f"POST /embed HTTP/1.1\r\n{offer}\r\nTransfer-Encoding: chunked\r\nHost: x\r\n\r\n".encode() + CHUNKED
    bare = f"GET /health HTTP/1.1\r\nHost: x\r\n{offer}\r\n\r\n".encode()
    plain = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
    answers = exchange(server, bare + sized + chunked + plain + bare, answers=5, step=step)
    assert [status for status, _ in answers] == [200] * 5
    vectors = [json.loads(body) for _, body in answers[1:4]]
    assert vectors[0] == vectors[1] == vectors[2]


def test_an_upgrade_beside_expect_continue_and_in_http_1_0_is_ignored_too(server: RunningServer) -> None:
    head = b"POST /embed HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\nExpect: 100-continue\r\n"
    head += b"Content-Length: %d\r\n\r\n" % len(BODY)
    with connect(server) as connection:
        connection.sendall(head)
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(BODY)
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
    old = (
        b"POST /embed HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
    )
    assert exchange(server, old)[0][0] == 200


@pytest.mark.parametrize("more", ["", OFFERS[0] + "\r\n"], ids=["plain", "with an offer"])
def test_the_server_itself_says_what_it_takes(server: RunningServer, more: str) -> None:
    def head(target: str) -> bytes:
        with connect(server) as connection:
            connection.sendall(f"{target} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode())
            return connection.recv(10_000).lower()

    found = head("OPTIONS *")
    assert found.startswith(b"http/1.1 204 ")
    assert b"allow: get, head, post\r\n" in found
    assert b"allow: options\r\n" in head("GET *")
    for target in ("GET http://x", "GET http://x?layers=2", "GET http://x/", "GET /"):
        assert head(target).startswith(b"http/1.1 200 "), target


def test_blanks_around_a_headers_value_are_no_part_of_it(server: RunningServer) -> None:
    for more in (b"X-Strata-Layers:  2 \t", b"x-strata-layers:2 ", b"X-STRATA-OUTPUT-DTYPE:\tint8 "):
        (answer,) = exchange(
            server, b"POST /embed HTTP/1.1\r\nHost: x \r\n%b\r\nContent-Length: %d \r\n\r\n" % (more, len(BODY)) + BODY
        )
        assert answer[0] == 200, answer


def test_a_field_of_the_body_is_not_dropped_without_a_word_elsewhere(client: httpx.Client) -> None:
    for refused in (
        client.post("/embed?normalize=false", content=BODY),
        client.post("/embed", content=BODY, headers={"X-Strata-Truncation-Direction": "Left"}),
        client.post("/v1/embeddings?encoding_format=base64", json={"input": "river"}),
    ):
        assert refused.status_code in (400, 422)
        assert "in the body alone" in refused.text
    assert client.post("/embed?api-version=2&user=x", content=BODY).status_code == 200


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("X_Strata_Layers", "`x_strata_layers` is no header here; the name is X-Strata-Layers"),
        ("X-Strata_Layers", "the name is X-Strata-Layers"),
        ("X_Strata-Layers", "the name is X-Strata-Layers"),
        ("X-Strata-Min_Layers", "the name is X-Strata-Min-Layers"),
        ("X-Strata-Layer", "the name is `layers`"),
        ("X-Strata-Foo", "`x-strata-foo` is no header here; there are X-Strata-Layers, X-Strata-Dim, "),
        ("X-Strata-", "there are X-Strata-Layers"),
        ("X-Strata-Predicted-Ms", "there are X-Strata-Layers"),  # of an answer
    ],
)
def test_a_header_of_ours_is_read_or_refused(client: httpx.Client, header: str, told: str) -> None:
    for path, body in (("/embed", {"inputs": "river"}), ("/v1/embeddings", {"input": "river", "model": "tiny"})):
        refused = client.post(path, json=body, headers={header: "2"})
        assert refused.status_code in (400, 422), header
        assert told in refused.text
    assert client.get("/plan", headers={header: "2"}).status_code == 422
    for others in ("X-Stratasys", "X-Strat", "Strata-Layers", "X"):  # whose names they are, we cannot know
        assert client.post("/embed", content=BODY, headers={others: "2"}).status_code == 200


def test_what_comes_behind_the_body_is_no_header(server: RunningServer) -> None:
    """A proxy that takes a header out, or says what may be in it, does so where headers are."""
    head = b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    trailers = b"X-Strata-Layers: 1\r\nX-Strata-Foo: 1\r\nHost: y\r\nExpect: 100-continue\r\n\r\n"
    plain, trailed, shallow = exchange(
        server,
        head + b"\r\n" + CHUNKED + head + b"\r\n" + CHUNKED[:-2] + trailers + head + trailers[:20] + b"\r\n" + CHUNKED,
        answers=3,
    )
    assert plain == trailed
    assert shallow[0] == 200
    assert shallow != plain


def test_a_body_that_was_not_asked_for_ends_the_connection(server: RunningServer) -> None:
    """Whether it still comes, nobody can tell; so the next request would be read as it (RFC 9110, 10.1.1)."""
    for path, more in (("/nowhere", ""), ("/embed", "Content-Encoding: br\r\n")):
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\n{more}Content-Length: {len(BODY)}\r\n".encode()
        with connect(server) as connection:
            connection.sendall(head + b"Expect: 100-continue\r\n\r\n")
            said = b"".join(iter(lambda: connection.recv(65536), b""))  # to the end
        assert re.match(rb"HTTP/1.1 4\d\d ", said)
        assert b"connection: close\r\n" in said
        refused, served = exchange(
            server, head + b"\r\n" + BODY + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", answers=2
        )
        assert (refused[0] // 100, served[0]) == (4, 200)


def test_http_1_0_knows_no_continue(server: RunningServer) -> None:
    head = b"POST /embed HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    assert exchange(server, head + BODY)[0][0] == 200


def test_connect_is_refused(server: RunningServer) -> None:
    assert exchange(server, b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n")[0][0] == 400


@pytest.mark.parametrize("step", [0, 7], ids=["at once", "in pieces"])
@pytest.mark.parametrize(
    ("head", "told"),
    [
        ("HTTP/1.1\r\nAccept: */*", b"one Host header; this one has none"),
        (f"HTTP/1.1\r\n{OFFERS[0]}", b"one Host header; this one has none"),
        ("HTTP/1.1\r\nHost: x\r\nhost: x", b"one Host header; this one has 2"),
        ("HTTP/1.0\r\nHost: x\r\nHost: y", b"one Host header; this one has 2"),
        *(
            (f"HTTP/1.1\r\nHost: {host}", b"a name or an address, and a port if any")
            for host in ("a b", "http://x", "x/", "user@x", "x:http", "x:1:2", "[::1", "x, y?", "x#y", "\xe9.org")
        ),
    ],
)
def test_what_does_not_say_whom_it_is_for_is_refused(server: RunningServer, head: str, told: bytes, step: int) -> None:
    ((status, body),) = exchange(server, f"GET /health {head}\r\n\r\n".encode("latin-1"), step=step)
    assert status == 400
    assert told in body


def test_a_body_in_another_transfer_encoding_is_refused(server: RunningServer) -> None:
    head = b"POST /embed HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: %b\r\n\r\n"
    assert exchange(server, head % b"Chunked" + CHUNKED)[0][0] == 200
    ((status, told),) = exchange(server, head % b"gzip, chunked" + CHUNKED)
    assert (status, b"no other Transfer-Encoding than chunked" in told) == (400, True)


@pytest.mark.parametrize(
    "wrong", [b"GARBAGE\r\n\r\n", b"GET /health HTTP/1.1\r\n\r\n", b"GET /health HTTP/1.1\r\na b: c\r\n"]
)
def test_what_comes_before_what_is_no_request_is_answered_first(server: RunningServer, wrong: bytes) -> None:
    ask = b"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
    for before in (1, 2, 5):
        with connect(server) as connection:
            connection.sendall(before * ask + wrong)
            said = b"".join(iter(lambda: connection.recv(65536), b""))
        assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200"] * before + [b"400"]


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.0",
        *(
            f"HTTP/1.1\r\nHost:{host}"
            for host in ("", " ", "x:", " a_b.example.:8080", "[::1]:80", "[fe80::1%25lo]", "127.0.0.1", "xn--9ca.org")
        ),
    ],
)
def test_a_host_as_rfc_9110_has_it_is_none_of_our_business(server: RunningServer, head: str) -> None:
    assert exchange(server, f"GET /health {head}\r\n\r\n".encode())[0][0] == 200


def test_an_idle_connection_is_kept_as_long_as_promised(start_server: ServerFactory, tiny_bundle: Path) -> None:
    hasty = (
        "import uvicorn; from functools import partial; uvicorn.Config = partial(uvicorn.Config, timeout_keep_alive=1)"
    )
    server = start_server(tiny_bundle, "--client-seconds", "2", first=hasty)
    ask = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    with connect(server) as used, connect(server) as idle:
        for connection in (used, idle):
            connection.sendall(ask)
            assert connection.recv(1000)
        began = time.monotonic()
        time.sleep(1.2)  # longer than uvicorn's own time, 5 s but for the line above
        used.sendall(ask)
        assert used.recv(1000).startswith(b"HTTP/1.1 200")
        assert idle.recv(1000) == b""
        assert 1.9 < time.monotonic() - began < 20


@pytest.mark.parametrize("path", ["/health", "/ready", "/info", "/metrics", "/v1/models", "/plan", "/", "/docs"])
def test_head_says_what_get_would(client: httpx.Client, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert head.status_code == got.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == got.headers["content-type"]
    if path != "/metrics":
        assert abs(int(head.headers["content-length"]) - len(got.content)) < 20  # of times that differ
    assert client.get("/health").status_code == 200, "the connection is still usable"


def test_another_method_is_refused_with_those_there_are(client: httpx.Client) -> None:
    for method, path, allowed in (
        ("PUT", "/embed", "POST"),
        ("HEAD", "/embed", "POST"),
        ("POST", "/info", "GET, HEAD"),
    ):
        answer = client.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert "takes POST" in client.get("/embed").json()["error"]
    assert "takes POST" in client.get("/v1/embeddings").json()["error"]["message"]
    for path, allowed in (
        ("/embed", "POST"),
        ("/ui", "GET, HEAD"),
        ("/v1/models/x", "GET, HEAD"),
        ("/ui/x.js", "GET, HEAD"),
    ):
        asked = client.options(path)
        assert (asked.status_code, asked.headers["allow"]) == (204, allowed)
    assert client.put("/guide/concepts").headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/embed/", "/v1/embeddings/", "/info/", "/v1/models/tiny/", "/embed//"])
def test_a_slash_at_the_end_changes_nothing_and_redirects_nowhere(client: httpx.Client, path: str) -> None:
    headers = {"X-Forwarded-Proto": "https"}
    if "embed" in path:
        answer = client.post(path, json={"inputs": "river", "input": "river"}, headers=headers)
    else:
        answer = client.get(path, headers=headers)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("accept", "raw"),
    [
        ("application/octet-stream", True),
        ("application/octet-stream;q=0", False),
        ("application/octet-stream; q=0.0, */*", False),
        ("Application/Octet-Stream", True),
        ("application/json, application/octet-stream;q=0.5", False),
        ("application/json;q=0.5, application/octet-stream", True),
        ("application/octet-stream, application/json", True),
        ("application/json, application/octet-stream", False),
        ("application/octet-stream, */*;q=0.1", True),
        ("application/json;q=0, */*", True),
        ("application/*", False),
        ("*/*", False),
        ("text/html", False),
        ("application/x-octet-stream-not", False),
        ("application/octet-stream;q=high", False),
        ("", False),
    ],
)
def test_accept_is_read_with_its_weights(client: httpx.Client, accept: str, raw: bool) -> None:
    answer = client.post("/embed", json={"inputs": "river"}, headers={"Accept": accept})
    expected = "application/octet-stream" if raw else "application/json"
    assert (answer.status_code, answer.headers["content-type"]) == (200, expected)


@pytest.mark.parametrize("encoding", ["identity", "Identity", "", "identity, IDENTITY"])
def test_a_body_that_says_it_is_as_it_is_is_read(client: httpx.Client, encoding: str) -> None:
    assert client.post("/embed", content=BODY, headers={"Content-Encoding": encoding}).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "identity, br", "Deflate", "x"])
def test_a_compressed_body_is_refused_with_what_to_send(client: httpx.Client, encoding: str) -> None:
    answer = client.post("/embed", content=BODY, headers={"Content-Encoding": encoding})
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "identity"
    assert "send the body as it is" in answer.json()["error"]


TEXT = '{"inputs": "rivière 山 \U0001f30a"}'


@pytest.mark.parametrize(
    "body",
    [
        TEXT.encode("utf-8-sig"),
        TEXT.encode("utf-16"),
        TEXT.encode("utf-16-le"),
        TEXT.encode("utf-16-be"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.encode("utf-32"),
        TEXT.encode("utf-32-le"),
        ("\n " + TEXT).encode("utf-16"),
    ],
)
def test_a_body_with_a_mark_or_in_utf_16_is_read(client: httpx.Client, body: bytes) -> None:
    plain = client.post("/embed", content=TEXT.encode())
    assert client.post("/embed", content=body).json() == plain.json()


@pytest.mark.parametrize("body", [TEXT.encode("latin-1", "replace"), TEXT.encode("utf-16")[:-1], b'{"inputs": "\xff"}'])
def test_another_encoding_is_refused_and_told_to_send_utf_8(client: httpx.Client, body: bytes) -> None:
    for path, status in (("/embed", 422), ("/v1/embeddings", 400)):
        answer = client.post(path, content=body)
        assert answer.status_code == status
        assert "send JSON in UTF-8" in answer.text


@pytest.mark.parametrize("mark", ["plain-1", "山-7", "é"])
def test_a_request_id_in_any_script_comes_back(client: httpx.Client, mark: str) -> None:
    answer = client.get("/health", headers={b"X-Request-Id": mark.encode()})
    raw: dict[bytes, bytes] = dict(answer.headers.raw)
    assert raw[b"x-request-id"] == mark.encode()


def test_a_latin_1_request_id_comes_back_byte_by_byte(client: httpx.Client) -> None:
    answer = client.get("/health", headers={b"X-Request-Id": b"caf\xe9"})
    found: Any = dict(answer.headers.raw)[b"x-request-id"]
    assert found == b"caf\xe9"
