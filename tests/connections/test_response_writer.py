"""Head and body are one write, and no header breaks out of its line."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from strata.app.api import responses
from strata.app.connections.response_writer import ResponseWriter


class Cycle:
    """As much of uvicorn's as is asked for."""

    def __init__(self, method: str = "POST", *, keep_alive: bool = True) -> None:
        self.scope = {"method": method}
        self.keep_alive = keep_alive
        self.disconnected = self.response_started = self.response_complete = False
        self.waiting_for_100_continue = True
        self.more_body = False
        self.flow = SimpleNamespace(write_paused=False)
        self.writes: list[bytes] = []
        self.left_to_uvicorn: list[str] = []
        self.closed = self.left = 0
        self.transport = SimpleNamespace(write=self.writes.append, close=self._close)
        self.message_event = asyncio.Event()
        self.over = 0

    def _close(self) -> None:
        self.closed += 1

    def leave(self) -> None:
        self.left += 1

    def on_response(self) -> None:
        self.over += 1

    async def send(self, message: dict[str, Any]) -> None:
        self.left_to_uvicorn.append(message["type"])


def answered(cycle: Cycle, headers: list[tuple[bytes, bytes]], *bodies: bytes, status: int = 200) -> None:
    async def send() -> None:
        write = ResponseWriter(cast(RequestResponseCycle, cycle), cycle.leave)
        await write({"type": "http.response.start", "status": status, "headers": headers})
        for number, body in enumerate(bodies, start=1):
            await write({"type": "http.response.body", "body": body, "more_body": number < len(bodies)})

    asyncio.run(send())


LENGTH = (b"content-length", b"2")


@pytest.mark.parametrize(("method", "body"), [("POST", b"{}"), ("HEAD", b"")])
def test_an_answer_is_one_write_and_the_connection_goes_on(method: str, body: bytes) -> None:
    cycle = Cycle(method)
    answered(cycle, [LENGTH, (b"x-strata-dim", b"8")], b"{}")
    assert cycle.writes == [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-strata-dim: 8\r\n\r\n" + body]
    assert (cycle.response_complete, cycle.over, cycle.closed) == (True, 1, 0)


def test_a_connection_that_ends_says_so() -> None:
    cycle = Cycle(keep_alive=False)
    answered(cycle, [LENGTH], b"{}")
    assert b"\r\nconnection: close\r\n\r\n{}" in cycle.writes[0]
    assert cycle.closed == 1


def test_a_body_that_was_not_asked_for_ends_the_connection_once_the_answer_is_read() -> None:
    cycle = Cycle()
    cycle.more_body = True
    answered(cycle, [LENGTH], b"{}")
    assert b"\r\nconnection: close\r\n\r\n{}" in cycle.writes[0]
    assert (cycle.left, cycle.closed) == (1, 0)


def test_pieces_and_unknown_lengths_are_left_to_uvicorn() -> None:
    for headers, bodies in (([LENGTH], (b"{", b"}")), ([], (b"{}",))):
        cycle = Cycle()
        answered(cycle, headers, *bodies)
        assert cycle.left_to_uvicorn == ["http.response.start"] + ["http.response.body"] * len(bodies)
        assert not cycle.writes


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb"])
def test_a_header_cannot_end_its_line(value: bytes) -> None:
    cycle = Cycle()
    with pytest.raises(RuntimeError, match="end of a line"):
        answered(cycle, [LENGTH, (b"x-strata-model", value)], b"{}")
    assert not cycle.writes


def test_the_time_that_is_told_has_the_writing_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    write = orjson.dumps

    def dumps(content: Any, option: int = 0) -> bytes:
        order.append("written")
        return write(content, option=option)

    def headers() -> list[tuple[bytes, bytes]]:
        order.append("told")
        return [(b"x-total-time", b"5")]

    monkeypatch.setattr(orjson, "dumps", dumps)
    answer = responses.json_response([1.0], headers)
    assert order == ["written", "told"]
    assert (answer.body, answer.headers["x-total-time"]) == (b"[1.0]", "5")
