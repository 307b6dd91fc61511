"""HTTP over a Unix socket, for commands that ask a server that listens on one."""

from __future__ import annotations

import socket
from http.client import HTTPConnection
from typing import Any


class UnixConnection(HTTPConnection):
    """A connection to the socket at ``path``; what else is given is the connection's own."""

    def __init__(self, path: str, host: str = "localhost", **options: Any) -> None:
        super().__init__(host, **options)
        self._path = path

    def connect(self) -> None:
        """Connect to the file instead of an address."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
