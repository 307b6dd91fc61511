"""One keep-alive HTTP/1.1 connection that does as little as a client can: the load must not come from here."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit


class LoadError(Exception):
    """The server did not answer as it should; a benchmark over failures is worth nothing."""


@dataclass(slots=True, frozen=True)
class Response:
    """Status and body of an answer."""

    status: int
    body: bytes

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(slots=True, frozen=True)
class Address:
    """Where a server listens, from its base URL."""

    host: str
    port: int
    prefix: str = ""

    @classmethod
    def parse(cls, url: str) -> Self:
        """From ``http://host:port[/prefix]``. Raises ValueError for anything else."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"{url!r} is not an http:// URL")
        return cls(parts.hostname, parts.port or 80, parts.path.rstrip("/"))

    def get(self, path: str) -> bytes:
        """A GET request, ready to be written."""
        return f"GET {self.prefix}{path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n\r\n".encode()

    def post(self, path: str, body: object) -> bytes:
        """A POST request with a JSON body, ready to be written."""
        content = json.dumps(body, ensure_ascii=False).encode()
        head = (
            f"POST {self.prefix}{path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        return head.encode() + content


class Connection(asyncio.Protocol):
    """Sends one prepared request at a time and returns its answer."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._expected: int | None = None  # length of the whole answer, once its head is read
        self._body_at = 0
        self._status = 0
        self._answer: asyncio.Future[Response] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, address: Address) -> Connection:
        """A connection to the server. Raises OSError when nobody listens."""
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, address.host, address.port)
        return connection

    async def send(self, request: bytes) -> Response:
        """The answer to one request. Raises LoadError when the server hangs up instead."""
        if self._transport is None:
            raise LoadError("the server closed the connection")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._transport = None
        self._fail(f"the server closed the connection: {exc or 'no reason given'}")

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        self._buffer += data
        if self._expected is None and not self._read_head():
            return
        if self._expected is not None and len(self._buffer) >= self._expected:
            response = Response(self._status, bytes(self._buffer[self._body_at : self._expected]))
            del self._buffer[: self._expected]
            self._expected = None
            if self._answer is not None and not self._answer.done():
                self._answer.set_result(response)

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[:end]).lower()
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            self._fail("an answer without content-length; this client reads no other")
            self.close()
            return False
        length = int(head[at + 17 :].split(b"\r\n", 1)[0])
        self._status = int(head[9:12])
        self._body_at = end + 4
        self._expected = self._body_at + length
        return True

    def _fail(self, message: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(LoadError(message))


async def fetch(address: Address, request: bytes) -> Response:
    """The answer to one request over a connection of its own."""
    connection = await Connection.open(address)
    try:
        return await connection.send(request)
    finally:
        connection.close()
