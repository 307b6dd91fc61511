"""Connections whose next move is the client's: bounded in number and time, so that others are still served.

uvicorn bounds only the pause between requests. Half a request, or an answer that is never taken, would stay for ever.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from strata.app.connections.protocol import BoundedProtocol

_SWEEP_S = 1.0


class Connections:
    """Open connections whose next move is the client's, the longest waiting first.

    ``limit`` connections may be open. One more closes the one that has waited longest, so that clients that are slow
    on purpose make room for others. ``client_s``: seconds that a client may take for its next move.
    """

    def __init__(self, client_s: float, limit: int) -> None:
        self._client_s = client_s
        self._limit = limit
        self._waiting: dict[BoundedProtocol, float] = {}  # for the client's next move; since when, by the loop's clock
        self._sweeping = False
        self._silent: dict[BoundedProtocol, float] = {}  # that have sent no whole head yet; since when
        self.ending = False  # whether each answer is the last of its connection: the server drains

    @property
    def newest(self) -> float:
        """When the last of those connected that have sent nothing yet, by the loop's clock; 0 without any."""
        return next(reversed(self._silent.values()), 0.0)

    def opened(self, connection: BoundedProtocol) -> None:
        """A client connected."""
        if not self._sweeping:
            self._sweeping = True
            self._sweep(connection.loop)
        self._silent[connection] = connection.loop.time()
        if len(connection.connections) > self._limit:
            victim = next(iter(self._waiting), connection)
            self.closed(victim)
            victim.transport.abort()

    def closed(self, connection: BoundedProtocol) -> None:
        """It is gone."""
        self._waiting.pop(connection, None)
        self._silent.pop(connection, None)

    def heard(self, connection: BoundedProtocol) -> None:
        """It has sent a whole head."""
        self._silent.pop(connection, None)

    def next_move(self, connection: BoundedProtocol, *, clients: bool) -> None:
        """Whether the next move is the client's."""
        if not clients:
            self._waiting.pop(connection, None)
        elif connection not in self._waiting:
            self._waiting[connection] = connection.loop.time()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        too_old = loop.time() - self._client_s
        for connection in [c for c, since in self._waiting.items() if since < too_old]:
            self.closed(connection)
            connection.hang_up(408, f"a request may take {self._client_s:g} s to be sent (--client-seconds)")
        loop.call_later(_SWEEP_S, self._sweep, loop)
