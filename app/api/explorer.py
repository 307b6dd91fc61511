"""`/ui`: the explorer, from the package."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from strata.app.api.plain_route import PlainRoute
from strata.app.api.refusals import NOT_FOUND, Refusal
from strata.app.connections.ports import Ports
from strata.app.ui import files

router = APIRouter(route_class=PlainRoute, include_in_schema=False)


@router.get("/ui")
async def page(request: Request) -> Response:
    """The page. It may load and ask nothing but this server."""
    ports: Ports = request.app.state.ports
    port = ports.main if ports.operations is not None else None
    content, etag = files.page(str(request.scope.get("root_path", "")), port)
    api = f" http://*:{port} https://*:{port}" if port else ""
    policy = (
        f"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'{api}; img-src 'self' data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return _answer(request, content, files.MEDIA[".html"], etag, {"Content-Security-Policy": policy})


@router.get("/ui/{name:path}")
async def file(request: Request) -> Response:
    """A script, style sheet or example of the page."""
    name: str = request.path_params["name"]
    try:
        content, media, etag = files.file(name)
    except KeyError:
        raise Refusal(NOT_FOUND, f"the explorer has no file {name[:100]!r}") from None
    return _answer(request, content, media, etag, {})


def _answer(request: Request, content: bytes, media: str, etag: str, headers: dict[str, str]) -> Response:
    """The content, or 304 where the browser has it. Asked for anew each time, so that a new version is seen at once."""
    headers = {**headers, "ETag": etag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=media, headers=headers)
