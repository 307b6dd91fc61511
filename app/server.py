"""The listening process: uvicorn, and an end that answers what was accepted before it closes."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Sequence
from functools import partial
from types import FrameType
from typing import Any, cast

import uvicorn

from strata.app import sighup
from strata.app.api.ask import known_deadline_s
from strata.app.connections.bounds import Connections
from strata.app.connections.file_limit import raise_file_limit
from strata.app.connections.intake import Intake
from strata.app.connections.listening import Listener, beyond_this_machine, open_to_all
from strata.app.connections.ports import Ports
from strata.app.connections.protocol import BoundedProtocol
from strata.app.engine.pool import EnginePool
from strata.app.environment import remarks
from strata.app.fitting import check_fits
from strata.app.lifecycle import Lifecycle
from strata.app.main import create_app
from strata.app.settings import Settings, SettingsError
from strata.app.telemetry import logs
from strata.app.tiers import Tiers

_FEW_CONNECTIONS = 1000
_LEAST_CONNECTIONS = 32  # with less not even the listeners may open
_RAISE_IT = "raise it: ulimit -n 65536, LimitNOFILE=65536 of systemd, --ulimit nofile=65536 of docker"
_FEW_NOTE = f"as many connections fit the limit of open files; {_RAISE_IT}"
_NOBODY_NOTE = "no tier has keys and none is anonymous; `strata keys new` prints a key and its line for a tier's `keys`"
# Descriptors of each listening socket. libuv accepts one connection a turn of the loop from each: with one descriptor,
# clients of a flood, in which a turn takes milliseconds, would wait for seconds.
_DESCRIPTORS = 16
# At shutdown, for clients that are connected already:
_LOOK_S = 0.05  # between two looks whether they have sent a request
_FIRST_BYTES_S = 0.5  # that the one which connected last has for it
_CONNECTED_S = 2.0  # that all of them have together


def serve(settings: Settings, pool: EnginePool, listeners: Sequence[Listener]) -> int:
    """Serve on sockets that listen, until told to stop.

    0 after a clean drain, 1 when it could not serve, or not answer all it had accepted.

    Raises SettingsError or TiersError, before anything is answered, for what must not be served so.
    """
    app = create_app(settings, pool)
    lifecycle: Lifecycle = app.state.lifecycle
    tiers: Tiers = app.state.tiers
    check_fits(settings, tiers, pool.bundle)
    if beyond_this_machine(settings) and not (tiers.callers.with_keys or settings.insecure):
        raise open_to_all(settings)
    limit = raise_file_limit()
    if limit < _LEAST_CONNECTIONS:
        raise SettingsError(f"the limit of open files leaves room for {limit} connections; {_RAISE_IT}")
    if limit < _FEW_CONNECTIONS:
        logs.event("few_open_files", {"connections": limit, "note": _FEW_NOTE}, level=logging.WARNING)
    if not tiers.callers.with_keys and tiers.callers.keyless is None:
        logs.event("nobody_may_call", {"note": _NOBODY_NOTE}, level=logging.WARNING)
    for remark in remarks(os.environ, Settings.model_fields):
        logs.event("environment", {"note": remark}, level=logging.WARNING)
    bounds = Connections(settings.client_seconds, limit)
    intake = Intake(tiers.callers, known_deadline_s)
    protocol: Any = partial(BoundedProtocol, bounds=bounds, intake=intake, turn_away=app.state.turn_away)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        # Only a proxy on this machine reaches a Unix socket.
        forwarded_allow_ips="*" if settings.uds else None,
        # After the drain nothing accepted is left to answer; this bounds clients that do not read their answers.
        timeout_graceful_shutdown=5,
    )
    server = _Server(config, lifecycle, tiers, app.state.ports, listeners, bounds)
    server.run()
    return server.status


class _Server(uvicorn.Server):
    """Drains before it closes: the listener still answers `/ready` (503) and `/health` while accepted work ends."""

    def __init__(
        self,
        config: uvicorn.Config,
        lifecycle: Lifecycle,
        tiers: Tiers,
        ports: Ports,
        listeners: Sequence[Listener],
        bounds: Connections,
    ) -> None:
        super().__init__(config)
        self._listeners = listeners
        self._bounds = bounds
        self.status = 0
        self._lifecycle, self._tiers, self._ports = lifecycle, tiers, ports
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        lifecycle.on_death = self._on_death

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer on the sockets, and log where they are: with port 0 the system chose."""
        loop = self._loop = asyncio.get_running_loop()
        await self.lifespan.startup()

        def protocol() -> asyncio.Protocol:
            kind: Any = self.config.http_protocol_class
            made: asyncio.Protocol = kind(
                config=self.config, server_state=self.server_state, app_state=self.lifespan.state
            )
            return made

        self.servers = []
        for listener in self._listeners:
            unix = listener.socket.family == socket.AF_UNIX
            create: Any = loop.create_unix_server if unix else loop.create_server
            self.servers += [await create(protocol, sock=listener.socket.dup()) for _ in range(_DESCRIPTORS)]
            listener.let_many_wait()
            if listener.name == "operations":
                self._ports.operations = listener.socket.getsockname()[1]
            elif listener.socket.family != socket.AF_UNIX:
                self._ports.main = listener.socket.getsockname()[1]
            logs.event(listener.name, listener.place)
        self.started = True
        loop.add_signal_handler(signal.SIGHUP, self._tiers.reload)
        if sighup.came():
            self._tiers.reload()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no new connection, answer clients that are connected already, then close."""
        for listener in self._listeners:
            listener.take_no_more()
        now = asyncio.get_running_loop().time
        end = now() + _CONNECTED_S
        await asyncio.sleep(_LOOK_S)
        while not self.force_exit and self._bounds.newest > now() - _FIRST_BYTES_S and now() < end:
            await asyncio.sleep(_LOOK_S)
        for each in list(self.server_state.connections):
            if (connection := cast(BoundedProtocol, each)).half:  # a whole request would have been refused, too
                connection.hang_up(503, "the server is shutting down")
        for listener in self._listeners:
            listener.close()
        await super().shutdown(sockets)
        if self.force_exit:  # uvicorn would leave the engine, and cut the lifespan off
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain. Second: leave at once. (uvicorn's own would end the process by the signal itself.)"""
        if self._loop is None or self._draining is not None:
            self.status = 1 if self._draining is not None else self.status  # accepted requests are left unanswered
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._lifecycle.give_up)
            self.should_exit = self.force_exit = True
            return
        self._loop.call_soon_threadsafe(self._begin_to_drain, signal.Signals(sig).name)

    def _begin_to_drain(self, reason: str) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(reason))
            # A client that keeps its connection might send the next request just as it is closed.
            self._bounds.ending = True
            for connection in self.server_state.connections:
                cast(BoundedProtocol, connection).end_with_answer()

    async def _drain(self, reason: str) -> None:
        logs.event("draining", {"reason": reason})
        finished = await self._lifecycle.drain()
        logs.event("drained" if finished else "drain_ran_out_of_time")
        self.status = self.status or (0 if finished else 1)
        self.should_exit = True

    def _on_death(self, reason: str) -> None:
        self.status = 1
        self.should_exit = True
