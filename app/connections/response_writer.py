"""An answer's head goes out with its body, in one write.

uvicorn writes the head first, and looks at every header twice. A server killed between the two writes would leave a
balancer with half an answer, which it cannot ask for again elsewhere; and two writes wake whoever reads twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from starlette.types import Message
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

Whole = tuple[int, list[tuple[bytes, bytes]], bytes]  # an answer: status, headers, body
_LARGE = 1 << 16  # bytes of a body
_BODILESS = (204, 304)  # statuses whose answers say nothing of a length


class ResponseWriter:
    """ASGI's ``send`` for one request. An answer that comes in pieces, or without a length, is left to uvicorn."""

    __slots__ = ("_cycle", "_leave", "_start")

    def __init__(self, cycle: RequestResponseCycle, leave: Callable[[], None]) -> None:
        """``leave``: hangs up on a client that still sends."""
        self._cycle = cycle
        self._leave = leave
        self._start: Message | None = None

    async def __call__(self, message: Message) -> None:
        """Keep the head until the body is there. Raises RuntimeError for a header that would break out of its line."""
        if message["type"] == "http.response.start":
            self._start = message
            return
        start, self._start = self._start, None
        cycle = self._cycle
        if start is not None:
            if not message.get("more_body", False) and (head := self._head(start)):
                if cycle.flow.write_paused and not cycle.disconnected:
                    await cycle.flow.drain()
                self._write(head, message.get("body", b""))
                return
            await cycle.send(cast(Any, start))
        await cycle.send(cast(Any, message))

    def write_now(self, answer: Whole) -> None:
        """Write an answer whose length is among its headers, to a client that reads."""
        status, headers, body = answer
        head = self._head({"status": status, "headers": headers})
        assert head is not None
        self._write(head, body)

    def _head(self, start: Message) -> bytes | None:
        """Status line and headers; None where the body's length is not among them."""
        cycle = self._cycle
        if cycle.waiting_for_100_continue and cycle.more_body:
            cycle.keep_alive = False  # the body was not asked for: whether it still comes, nobody can tell
        parts, known = [STATUS_LINE[start["status"]]], start["status"] in _BODILESS
        headers = start["headers"] if cycle.keep_alive else [*start["headers"], (b"connection", b"close")]
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
            known = known or name == b"content-length"
        parts.append(b"\r\n")
        head = b"".join(parts)
        lines = len(headers) + 2
        if not head.count(b"\r") == head.count(b"\n") == lines:
            raise RuntimeError("a header holds the end of a line")
        return head if known else None

    def _write(self, head: bytes, body: bytes) -> None:
        cycle = self._cycle
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        if cycle.scope["method"] == "HEAD":
            cycle.transport.write(head)
        elif len(body) < _LARGE:
            cycle.transport.write(head + body)
        else:
            cycle.transport.writelines([head, body])  # one write, too, and nothing is copied first
        cycle.message_event.set()
        if not cycle.keep_alive:
            if cycle.more_body:
                self._leave()
            else:
                cycle.transport.close()
        cycle.on_response()
