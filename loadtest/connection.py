"""One keep-alive HTTP/1.1 connection that does as little as a client can: the load must not come from here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit


class LoadError(Exception):
    """The server did not answer as it should; a benchmark over failures is worth nothing."""


@dataclass(slots=True, frozen=True)
class Response:
    """An answer."""

    status: int
    body: bytes
    head: bytes = b""  # status line and headers, in lower case

    def header(self, name: str) -> str | None:
        """The value of a header, given in lower case; None where there is none."""
        at = self.head.find(b"\r\n%s:" % name.encode())
        if at < 0:
            return None
        return self.head[at + len(name) + 3 :].split(b"\r\n", 1)[0].strip().decode("latin-1")

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

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> bytes:
        """A GET request, ready to be written."""
        return self._head("GET", path, headers or {}).encode() + b"\r\n"

    def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> bytes:
        """A POST request with a JSON body, ready to be written."""
        content = json.dumps(body, ensure_ascii=False).encode()
        more = {"content-type": "application/json", "content-length": str(len(content)), **(headers or {})}
        return self._head("POST", path, more).encode() + b"\r\n" + content

    def _head(self, method: str, path: str, headers: Mapping[str, str]) -> str:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{method} {self.prefix}{path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n{lines}"


class Connection(asyncio.Protocol):
    """Sends one prepared request at a time and returns its answer."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._expected: int | None = None  # length of the whole answer, once its head is read
        self._body_at = 0
        self._head = b""
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

    @property
    def open_still(self) -> bool:
        """Whether a request can be sent; servers hang up on connections that were idle for some seconds."""
        return self._transport is not None and not self._transport.is_closing()

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
            response = Response(int(self._head[9:12]), bytes(self._buffer[self._body_at : self._expected]), self._head)
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
        self._head = head
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
