"""The client sends what it should, and measures what it says, against a server of a known speed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from strata.loadtest.closed_loop import Sample, run_for, run_once
from strata.loadtest.connection import Address, Connection, LoadError, fetch

Answer = Callable[[bytes], Awaitable[bytes]]


def ok(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def with_server(answer: Answer, use: Callable[[Address], Awaitable[Any]]) -> Any:
    """Run ``use`` against a keep-alive server that answers each body with ``answer(body)``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next((int(h.split(b":")[1]) for h in head.split(b"\r\n") if h.startswith(b"content-len")), 0)
                writer.write(await answer(await reader.readexactly(length)))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def main() -> Any:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            return await use(Address("127.0.0.1", server.sockets[0].getsockname()[1]))

    return asyncio.run(main())


def test_every_request_is_sent_once_and_in_order() -> None:
    seen: list[int] = []

    async def answer(body: bytes) -> bytes:
        seen.append(json.loads(body)["inputs"])
        return ok(b"[]")

    async def use(address: Address) -> Sample:
        return await run_once(address, [address.post("/embed", {"inputs": i}) for i in range(50)], 4)

    sample = with_server(answer, use)
    assert sorted(seen) == list(range(50))
    assert len(sample.latencies) == 50


def test_latency_and_rate_are_those_of_the_server() -> None:
    async def answer(body: bytes) -> bytes:
        await asyncio.sleep(0.02)
        return ok(b"[]")

    async def use(address: Address) -> Sample:
        return await run_for(address, [address.post("/embed", {})], 5, 0.5)

    sample = with_server(answer, use)
    assert 0.02 <= sample.p50 <= sample.p99
    assert 0 < sample.rate <= 250  # five connections, at best 50 a second each


def test_a_request_that_straddles_the_end_counts_for_its_share() -> None:
    sample = Sample(begin=10.0, end=12.0, spans=[(10.0, 11.0), (11.0, 12.0), (11.5, 12.5)])
    assert sample.rate == pytest.approx(2.5 / 2)
    assert sample.latencies == [1.0, 1.0]


def test_no_more_than_one_request_is_out_on_a_connection() -> None:
    out = most = 0

    async def answer(body: bytes) -> bytes:
        nonlocal out, most
        out += 1
        most = max(most, out)
        await asyncio.sleep(0.002)
        out -= 1
        return ok(b"[]")

    async def use(address: Address) -> Sample:
        return await run_once(address, [address.post("/", {})] * 40, 3)

    with_server(answer, use)
    assert most == 3


def test_a_failure_ends_the_run_with_what_the_server_said() -> None:
    async def answer(body: bytes) -> bytes:
        return ok(b"no room").replace(b"200 OK", b"429 Too Many Requests")

    async def use(address: Address) -> Sample:
        return await run_once(address, [address.post("/", {})], 1)

    with pytest.raises(LoadError, match="429: no room"):
        with_server(answer, use)


def test_answers_that_come_in_pieces_are_put_together() -> None:
    async def use(address: Address) -> list[bytes]:
        connection = Connection()
        connection.data_received(b"")
        bodies = []
        for pieces in ([b"HTTP/1.1 200 OK\r\ncontent-le", b"ngth: 5\r\n\r\nhe", b"llo"], [ok(b"again")]):
            connection._answer = asyncio.get_running_loop().create_future()
            for piece in pieces:
                connection.data_received(piece)
            bodies.append((await connection._answer).body)
        return bodies

    async def answer(body: bytes) -> bytes:
        return ok(b"")

    assert with_server(answer, use) == [b"hello", b"again"]


def test_text_beyond_ascii_arrives_whole() -> None:
    async def answer(body: bytes) -> bytes:
        return ok(body)

    async def use(address: Address) -> Any:
        return (await fetch(address, address.post("/", {"inputs": "café 東京"}))).json()

    assert with_server(answer, use) == {"inputs": "café 東京"}


@pytest.mark.parametrize("url", ["localhost:8080", "https://localhost", "ftp://localhost"])
def test_only_plain_http_is_measured(url: str) -> None:
    with pytest.raises(ValueError, match="not an http:// URL"):
        Address.parse(url)
