"""An answer's head goes out with its body, in one write.

uvicorn writes the head first. A server killed between the two would leave a balancer with half an answer, which it
cannot ask for again elsewhere; and two writes wake whoever reads twice.
"""

from __future__ import annotations

import asyncio
from typing import Any


class JoiningTransport:
    """A connection's transport that keeps what `hold` announces until the next write, or until it is closed."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._holds = False
        self._held = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def hold(self) -> None:
        """Keep the next write for the one after it."""
        self._holds = True

    def write(self, data: bytes) -> None:
        """Send, after what is kept."""
        if self._holds:
            self._holds = False
            self._held += data
        else:
            held, self._held = self._held, b""
            self._transport.write(held + data if held else data)

    def flush(self) -> None:
        """Send what is kept, if anything is."""
        self._holds = False
        if self._held:
            self.write(b"")

    def close(self) -> None:
        """Send what is kept, and hang up."""
        self.flush()
        self._transport.close()
