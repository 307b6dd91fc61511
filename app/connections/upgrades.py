"""An offer to speak another protocol is declined by answering in this one (RFC 9110, 7.8).

llhttp takes what follows a request with an offer for the other protocol, and so loses the request's body. Here such a
request is parsed a second time without the offer.
"""

from __future__ import annotations

from typing import Any, Protocol

import httptools


class Receiver(Protocol):
    """What hears of the requests: uvicorn's protocol."""

    url: bytes
    headers: list[tuple[bytes, bytes]]

    def on_message_begin(self) -> None:
        """A request begins."""

    def on_url(self, url: bytes) -> None:
        """A piece of its target."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""

    def on_headers_complete(self) -> None:
        """The head is there."""

    def on_message_complete(self) -> None:
        """The request is there."""


class DecliningParser:
    """httptools' parser of requests, for which no request offers an upgrade."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        # httptools looks these up once, and calls them for every piece.
        self.on_message_begin, self.on_url = receiver.on_message_begin, receiver.on_url
        self.on_header, self.on_body = receiver.on_header, receiver.on_body
        self._parser = self._fresh()

    def _fresh(self) -> Any:
        parser = httptools.HttpRequestParser(self)
        parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
        return parser

    def feed_data(self, data: bytes) -> None:
        """More bytes. Raises httptools.HttpParserError."""
        while True:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as offer:
                data = self._without_offer() + data[offer.args[0] :]
                self._parser = self._fresh()

    def _without_offer(self) -> bytes:
        """The head that is complete, again, less what offers the upgrade."""
        method, version = self._parser.get_method(), self._parser.get_http_version()
        lines = [b"%b %b HTTP/%b" % (method, self._receiver.url, version.encode())]
        for name, value in self._receiver.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in (b"upgrade", b""))
            if name != b"upgrade" and (value or name != b"connection"):
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def on_headers_complete(self) -> None:
        """Pass on, unless the head is to be parsed again."""
        if not self._parser.should_upgrade():
            self._receiver.on_headers_complete()
        elif self._parser.get_method() == b"CONNECT":  # an upgrade by itself; this is no proxy
            raise ValueError("CONNECT is for proxies")

    def on_message_complete(self) -> None:
        """Pass on, likewise."""
        if not self._parser.should_upgrade():
            self._receiver.on_message_complete()

    def get_http_version(self) -> str:
        """Of the request whose head was last complete."""
        return str(self._parser.get_http_version())

    def get_method(self) -> bytes:
        """Likewise."""
        return bytes(self._parser.get_method())

    def should_keep_alive(self) -> bool:
        """Likewise."""
        return bool(self._parser.should_keep_alive())

    def should_upgrade(self) -> bool:
        """Never."""
        return False
