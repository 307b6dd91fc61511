"""uvicorn's HTTP/1.1, with bounds on what a client may send before it is answered.

A head, or requests sent ahead of their answers, would take what memory there is. What is no request is refused with a
reason, and the client has time to read it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any, NoReturn, cast

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from strata.app.callers.callers import Caller
from strata.app.connections.bounds import Connections
from strata.app.connections.departure import ON_DEPARTURE
from strata.app.connections.intake import Intake
from strata.app.connections.response_writer import ResponseWriter, Whole
from strata.app.connections.upgrades import DecliningParser
from strata.app.telemetry import logs

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

_LINGER_S = 1.0  # that a client which still sends has to read the last answer and to close
_MOST_HEAD = 65_536  # bytes of a request's line and headers, or of what else is no body
_HEAD_TOLD = f"a request's head may take {_MOST_HEAD} bytes"
_MOST_AHEAD = 16  # requests on a connection that wait for those before them
_NO_PATH = re.compile(rb"(\w+://[^/?#]+)([?#].*)?")  # a proxy's target as http://host, which means http://host/
# RFC 9110, 7.2: a host as RFC 3986 has it and a port, or nothing.
_HOST = re.compile(rb"(\[[\w:.%-]+\]|[\w.~!$&'()*+,;=%-]*)(:\d*)?", re.ASCII)


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol; tells whose the next move is, and has answers written whole."""

    def __init__(
        self,
        *args: Any,
        bounds: Connections,
        intake: Intake,
        turn_away: Callable[[Scope, Caller], Whole],
        **kwargs: Any,
    ) -> None:
        """``turn_away``: the answer to a request that is crowded out."""
        super().__init__(*args, **kwargs)
        self.parser = cast(httptools.HttpRequestParser, DecliningParser(self))
        self._bounds = bounds
        self._intake = intake
        self._turn_away = turn_away
        self._lost = False  # the connection is closed
        self._answered: RequestResponseCycle | None = None  # what is being answered; `cycle` is what was sent last
        self._departed: Callable[[], None] | None = None  # called when the client closes the connection
        self._refusal = ""  # why what came is no request, where we know better than the parser
        self._refused = False  # what came last is no request: 400 goes out once what came before it is answered
        self._left = False  # the last answer is written, and what comes is dropped
        self._idle_bytes = 0  # received since a head or a piece of a body was complete
        self._application, self.app = self.app, self._answer  # uvicorn calls `app` for every request

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        scope, start = cast(Scope, cycle.scope), partial(super()._start_asgi_task, cycle, app)
        caller = self._intake.begin(self.loop, scope, start)
        if caller is None:
            return
        if self.flow.write_paused or any(name == b"origin" for name, _ in scope["headers"]):
            # Not refused here: the client must read first, or a browser's page needs CORS headers to see why.
            start()
            return
        if self._bounds.ending:
            self.end_with_answer()
        ResponseWriter(cycle, self.leave).write_now(self._turn_away(scope, caller))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = cast(RequestResponseCycle, cast(MethodType, send).__self__)  # `send` is a method of it
        self._answered = cycle
        if self._bounds.ending:
            self.end_with_answer()
        scope[ON_DEPARTURE] = self._on_departure
        await self._application(scope, receive, ResponseWriter(cycle, self.leave))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client must send."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._bounds.opened(self)
        self._settle()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed: what is being done for it ends."""
        self._bounds.closed(self)
        super().connection_lost(exc)
        self._lost = True
        if self._answered is not None and not self._answered.response_complete:
            self._answered.disconnected = True  # uvicorn marks only the last of those sent ahead
        if self._departed is not None:
            self._departed()

    def _on_departure(self, callback: Callable[[], None] | None) -> None:
        """Tell of the client's departure, also where it left before anybody asked."""
        self._departed = callback
        if callback is None:
            return
        if not self.pipeline:  # a large last piece of the body made uvicorn stop reading, and so nobody would see it go
            self.flow.resume_reading()
        if self._lost:
            callback()

    def data_received(self, data: bytes) -> None:
        """More bytes. What is not yet a whole head or a piece of a body may take 64 KiB."""
        if self._refused or self._left:
            return
        self._idle_bytes += len(data)
        super().data_received(data)
        if self._idle_bytes > _MOST_HEAD + len(data) and not (self._left or self.transport.is_closing()):
            self.send_400_response(_HEAD_TOLD)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, and hang up; the log says whose it was."""
        self._refusal = msg = self._refusal or msg
        logs.request({"client": self.client[0] if self.client else "local", "status": 400, "error": msg})
        cycle = self.cycle
        if self.pipeline:
            if cycle.more_body:  # it is what is no request
                self.pipeline.popleft()
            self._refused = True
        else:
            self._refused = cycle is not None and not cycle.response_complete and not cycle.more_body
        if not self._refused:  # else what came before is answered first
            self._say_last(400, msg)

    def _say_last(self, status: int, why: str) -> None:
        """Answer what is no whole request, and hang up."""
        head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(why)
        self.transport.write(STATUS_LINE[status] + head + why.encode())
        self.leave()

    def leave(self) -> None:
        """Hang up on a client that may still send: only once it has read the last answer, or has had time to.

        A socket that is closed with bytes unread is reset, and what the client has not read by then may be lost to it.
        """
        if self._left or self.transport.is_closing():
            return
        self._left = True
        if self.cycle is not None and not self.cycle.response_complete:  # nobody will be told what it comes to
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.resume_reading()
        self.transport.write_eof()
        self.loop.call_later(_LINGER_S, self.transport.close)

    def end_with_answer(self) -> None:
        """Say with the answer to the last request that has come that no other will be heard on this connection."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    @property
    def half(self) -> bool:
        """Whether a part of a request has come, and nothing of an answer has gone."""
        if self._left or self.flow.write_paused or self.pipeline:
            return False
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return self._idle_bytes > 0
        return cycle.more_body and not cycle.response_started

    def hang_up(self, status: int, why: str) -> None:
        """End a connection; where it is half a request, say why."""
        if not self.half:
            self.transport.abort()
            return
        logs.request({"client": self.client[0] if self.client else "local", "status": status, "error": why})
        self._say_last(status, why)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, as uvicorn takes it, less the blanks behind its value, which are not part of it."""
        name, value = name.lower(), value.rstrip(b" \t")
        if name == b"expect" and value.lower() == b"100-continue" and self.parser.get_http_version() != "1.0":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """A request begins. Raises what makes uvicorn refuse it with 400 and hang up."""
        self._idle_bytes = 0
        self._bounds.heard(self)
        size, hosts, plain = len(self.url), [], True
        for name, value in self.headers:
            size += len(name) + len(value)
            if name == b"host":
                hosts.append(value)
            elif name == b"transfer-encoding":
                plain = plain and value.lower() == b"chunked"
        if size > _MOST_HEAD:
            self._refuse(_HEAD_TOLD)
        if len(hosts) != 1 and (hosts or self.parser.get_http_version() == "1.1"):
            self._refuse(f"a request must have one Host header; this one has {len(hosts) or 'none'}")
        if hosts and not _HOST.fullmatch(hosts[0]):
            self._refuse("the Host header must be a name or an address, and a port if any: example.org:8080")
        if not plain:
            self._refuse("a body may be sent in no other Transfer-Encoding than chunked")
        if self.url[:1] != b"/" and (bare := _NO_PATH.fullmatch(self.url)):
            self.url = bare[1] + b"/" + (bare[2] or b"")
        super().on_headers_complete()
        self.headers = []  # for what comes behind the body: trailers are no headers (RFC 9110, 6.5.1)
        if len(self.pipeline) > _MOST_AHEAD:
            self._refuse(f"{_MOST_AHEAD} requests may be sent ahead of their answers")

    def _refuse(self, why: str) -> NoReturn:
        """Leave the parser; `send_400_response` says why."""
        self._refusal = why
        raise ValueError(why)

    def on_body(self, body: bytes) -> None:
        """A piece of a body."""
        self._idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The server must answer."""
        self._idle_bytes = 0
        super().on_message_complete()
        self._settle()

    def on_response_complete(self) -> None:
        """The client must take the answer, and may send the next request.

        As in uvicorn, without its timer for idle connections, which is made and ended for each answer: `Connections`
        closes a connection that is idle for too long.
        """
        self.server_state.total_requests += 1
        if not self._left and not self.transport.is_closing():
            self.flow.resume_reading()
            if self.pipeline:
                self._start_asgi_task(*self.pipeline.pop())
            elif self._refused:
                self._say_last(400, self._refusal)
        self._settle()

    def pause_writing(self) -> None:
        """The client must read first."""
        super().pause_writing()
        self._settle()

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        self._settle()

    def _settle(self) -> None:
        cycle = self.cycle
        working = cycle is not None and not cycle.response_complete and not cycle.more_body
        self._bounds.next_move(self, clients=not working or self.flow.write_paused)
