"""The application: its parts, its routes, and its lifespan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from strata import __version__
from strata.app.api import (
    cohere,
    docs_page,
    embed,
    explorer,
    guide,
    now,
    openai,
    operations,
    plan,
    similarity,
    tokenize,
)
from strata.app.api.cors import Cors
from strata.app.api.embedder import Embedder
from strata.app.api.gateway import Gateway, direct
from strata.app.api.limits import RequestLimits
from strata.app.api.refusals import NOT_ALLOWED, refusal_of, refusal_response
from strata.app.connections.ports import Ports
from strata.app.engine.pool import EnginePool
from strata.app.in_flight import InFlight
from strata.app.lifecycle import Lifecycle
from strata.app.settings import Settings
from strata.app.telemetry.loop_lag import LoopLag
from strata.app.telemetry.metrics import Metrics
from strata.app.telemetry.recorder import Recorder
from strata.app.tiers import Tiers
from strata.app.tracing import Tracing
from strata.app.writers import Writers

_ABOUT = """Embeddings from the first N layers of a 2D Matryoshka encoder: as deep, and as long, as you can afford."""


class Application(FastAPI):
    """FastAPI, behind an entry of its own: on the way to most endpoints a request meets none of its layers."""

    entry: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Requests go to the entry, the lifespan to FastAPI."""
        if scope["type"] == "http":
            scope["app"] = self
            if self.root_path:
                scope["root_path"] = self.root_path
            await self.entry(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app(settings: Settings, pool: EnginePool) -> FastAPI:
    """The application serving the pool's bundle; the model is loaded while it already answers `/health`.

    Raises TiersError for a file of tiers that cannot be used, TracingError where spans cannot be made.
    """
    metrics, ports, tiers = Metrics(), Ports(), Tiers(settings)
    recorder, lag = Recorder(metrics), LoopLag(metrics.loop_lagged)
    in_flight = InFlight(settings.max_concurrent_requests, settings.payload_memory)
    tracing = Tracing(__version__) if settings.traces else None
    writers = Writers()
    lifecycle = Lifecycle(settings, pool, tiers, in_flight, metrics, writers)
    limits = RequestLimits.of(settings)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        lag.start()
        lifecycle.start()
        yield
        lag.stop()
        recorder.stop()
        await lifecycle.stop()
        if tracing:
            await asyncio.to_thread(tracing.close)

    app = Application(
        title="Strata",
        description=_ABOUT,
        version=__version__,
        lifespan=life,
        docs_url=None,
        openapi_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the gateway reads both, and knows nothing of the scheme that a proxy speaks
    )
    app.root_path = settings.root_path  # as an argument it brings a warning that no operator can do anything about
    # What endpoints may take, each what it names.
    app.state.settings, app.state.limits, app.state.ports, app.state.tiers = settings, limits, ports, tiers
    app.state.lifecycle, app.state.in_flight = lifecycle, in_flight
    app.state.metrics, app.state.recorder = metrics, recorder
    app.state.embedder = Embedder(lifecycle, in_flight, limits, metrics, writers)
    routers = [
        room.router for room in (embed, openai, cohere, similarity, plan, tokenize, operations, docs_page, now, guide)
    ]
    if settings.ui:
        routers.append(explorer.router)
    for router in routers:
        app.include_router(router)
    gateway = app.entry = Gateway(
        ExceptionMiddleware(app.router, {HTTPException: _refused}),
        direct=direct(routers),
        callers=tiers.callers,
        in_flight=in_flight,
        metrics=metrics,
        ports=ports,
        tracing=tracing,
    )
    app.state.turn_away = gateway.turn_away
    if settings.origins or settings.operations_port is not None:
        app.entry = Cors(app.entry, settings.origins, ports)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    """What FastAPI's router refuses: unknown paths, and other methods of paths with parameters."""
    refusal = refusal_of(error)
    if refusal.kind is NOT_ALLOWED:
        allowed = refusal.headers.get("Allow", "").replace("GET", "GET, HEAD")
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": allowed})
        refusal.headers = {"Allow": allowed}
    return refusal_response(refusal, request.url.path)
