"""`/docs`: Swagger UI from an installed package, so that nothing is fetched; and the schema it shows."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from strata.app.api.plain_route import PlainRoute
from strata.app.api.responses import json_response
from strata.app.connections.ports import Ports
from strata.app.tiers import Tiers

router = APIRouter(route_class=PlainRoute, include_in_schema=False)

_ASSETS = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css"}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Strata: API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{root}/docs/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{root}/docs/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({{
  url: "{root}/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
}})
</script>
</body>
</html>
"""


@router.get("/docs")
async def page(request: Request) -> Response:
    """The page."""
    return Response(_PAGE.format(root=request.scope.get("root_path", "")), media_type="text/html; charset=utf-8")


@router.get("/docs/swagger-ui-bundle.js")
@router.get("/docs/swagger-ui.css")
async def asset(request: Request) -> Response:
    """What the page is made of."""
    name = request.scope["path"].rpartition("/")[2]
    content = files("fastapi_swagger").joinpath("resources", name).read_bytes()
    return Response(content, media_type=_ASSETS[name], headers={"Cache-Control": "max-age=86400"})


@router.get("/openapi.json")
async def schema(request: Request) -> Response:
    """The schema: where to try it, and how keys are sent."""
    return json_response({**request.app.openapi(), **_place(request), **_keys(request)} | _schemes(request))


def _place(request: Request) -> dict[str, Any]:
    """On a port of its own the docs have to call another one."""
    root = request.scope.get("root_path", "")
    ports: Ports = request.app.state.ports
    port = ports.operations
    if port is None or request.scope["server"][1] != port or ports.main is None:
        return {"servers": [{"url": root or "/"}]}
    return {"servers": [{"url": f"{request.url.scheme}://{_bracketed(request.url.hostname)}:{ports.main}{root}"}]}


def _bracketed(host: str | None) -> str:
    return f"[{host}]" if host and ":" in host else host or "127.0.0.1"


def _keys(request: Request) -> Mapping[str, Any]:
    """Keys can be entered where any is known; they may be left out where some callers need none."""
    tiers: Tiers = request.app.state.tiers
    if not tiers.callers.with_keys:
        return {}
    return {"security": [{"key": []}] + ([{}] if tiers.callers.keyless else [])}


def _schemes(request: Request) -> dict[str, Any]:
    components = request.app.openapi().get("components", {})
    key = {"type": "http", "scheme": "bearer", "description": "`Authorization: Bearer KEY`"}
    return {"components": {**components, "securitySchemes": {"key": key}}}
