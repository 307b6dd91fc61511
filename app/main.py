"""The application: its routes, and the life of the service behind them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

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
from strata.app.api.gateway import Gateway, direct
from strata.app.api.refusals import NOT_ALLOWED, refusal_of, refusal_response
from strata.app.engine.pool import EnginePool
from strata.app.service import Service
from strata.app.settings import Settings

_ABOUT = """Embeddings from the first N layers of a 2D Matryoshka encoder: as deep, and as long, as you can afford."""


def create_app(settings: Settings, pool: EnginePool) -> FastAPI:
    """The application serving the pool's bundle; the model is loaded while it already answers `/health`."""
    service = Service(settings, pool)

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="Strata",
        description=_ABOUT,
        version=__version__,
        lifespan=life,
        root_path=settings.root_path,
        docs_url=None,
        openapi_url=None,
        redoc_url=None,
        redirect_slashes=False,  # the gateway reads both, and knows nothing of the scheme that a proxy speaks
    )
    app.state.service = service
    routers = [
        room.router for room in (embed, openai, cohere, similarity, plan, tokenize, operations, docs_page, now, guide)
    ]
    if settings.ui:
        routers.append(explorer.router)
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(HTTPException, _refused)
    app.add_middleware(Gateway, service=service, direct=direct(routers))
    app.add_middleware(Cors, service=service)
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
