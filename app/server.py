"""The listening process: uvicorn, and an end that answers what was accepted before it closes."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import signal
import socket
from functools import partial
from types import FrameType
from typing import Any

import uvicorn

from strata.app import logs
from strata.app.connections import BoundedProtocol, Connections, raise_file_limit
from strata.app.engine.pool import EnginePool
from strata.app.main import create_app
from strata.app.service import Service
from strata.app.settings import Settings, SettingsError


def serve(settings: Settings, pool: EnginePool) -> int:
    """Serve until told to stop. 0 after a clean drain, 1 when it could not serve, or not answer all it had accepted.

    Raises SettingsError or TiersError, before anything listens, for what must not be served so.
    """
    app = create_app(settings, pool)
    service: Service = app.state.service
    if not (_loopback(settings.host) or service.callers.with_keys or settings.insecure):
        raise SettingsError(
            f"--host: {settings.host} can be reached from other machines, and nobody would need a key: "
            "give --tiers a file with keys, or --insecure"
        )
    bounds = Connections(settings.client_seconds, raise_file_limit())
    protocol: Any = partial(BoundedProtocol, bounds=bounds)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=protocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        # An idle connection is kept as long as any client may think; pools and balancers should keep theirs for less.
        timeout_keep_alive=math.ceil(settings.client_seconds),
        # After the drain nothing accepted is left to answer; this bounds clients that do not read their answers.
        timeout_graceful_shutdown=5,
    )
    server = _Server(config, service)
    if settings.operations_port is None:
        server.run()
    else:
        ports = [config.bind_socket(), _operations_socket(config, settings.operations_port)]
        service.operations_port = ports[1].getsockname()[1]
        server.run(ports)
    return server.status


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _operations_socket(config: uvicorn.Config, port: int) -> socket.socket:
    return uvicorn.Config(config.app, host=config.host, port=port, log_config=None).bind_socket()


class _Server(uvicorn.Server):
    """Drains before it closes: the listener still answers `/ready` (503) and `/health` while accepted work ends."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.status = 0
        self._service = service
        self._loop: asyncio.AbstractEventLoop | None = None
        self._draining: asyncio.Task[None] | None = None
        service.on_death = self._on_death

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bind, then say where (with port 0 nobody could know)."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        self._loop.add_signal_handler(signal.SIGHUP, self._service.reload_tiers)
        for listener in (s for server in getattr(self, "servers", []) for s in server.sockets):
            host, port = listener.getsockname()[:2]
            event = "operations" if port == self._service.operations_port else "listening"
            logs.event(event, {"url": f"http://{host}:{port}"})

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """First signal: drain. Second: leave at once. (uvicorn's own would end the process by the signal itself.)"""
        if self._loop is None or self._draining is not None:
            self.status = 1 if self._draining is not None else self.status  # accepted requests are left unanswered
            self.should_exit = self.force_exit = True
            return
        self._loop.call_soon_threadsafe(self._begin_to_drain, signal.Signals(sig).name)

    def _begin_to_drain(self, reason: str) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(reason))

    async def _drain(self, reason: str) -> None:
        logs.event("draining", {"reason": reason})
        finished = await self._service.drain()
        logs.event("drained" if finished else "drain_ran_out_of_time")
        self.status = self.status or (0 if finished else 1)
        self.should_exit = True

    def _on_death(self, reason: str) -> None:
        self.status = 1
        self.should_exit = True
