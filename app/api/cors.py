"""Pages of other origins: those that `--cors-origin` names, and the docs that lie on the operations port."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from strata.app.connections.ports import Ports

_METHODS = ("GET", "HEAD", "POST")
# A page's script sees of an answer's headers only those that are named here.
_EXPOSED = (
    *("Retry-After", "Server-Timing", "X-Request-Id"),
    *(
        f"X-Strata-{name}"
        for name in ("Dim", "Dtype", "Input-Type", "Int8-Range", "Layers", "Model", "Output-Dtype", "Predicted-Ms")
    ),
    *("X-Strata-Quality", "X-Strata-Shape", "X-Strata-Slack-Ms", "X-Strata-Space", "X-Strata-Task", "X-Strata-Tier"),
    "X-Strata-Truncated",
    *("X-Compute-Characters", "X-Compute-Time", "X-Compute-Tokens", "X-Compute-Type", "X-Total-Time"),
    *("X-Inference-Time", "X-Queue-Time", "X-Tokenization-Time"),
)
_REMEMBERED_S = 600


class Cors:
    """Pure ASGI, outside of the gateway: a browser asks beforehand and without a key."""

    def __init__(self, app: ASGIApp, origins: tuple[str, ...], ports: Ports) -> None:
        self._app = app
        self._ports = ports
        self._usual = _allowing(app, origins) if origins else app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what a browser asks beforehand; mark the answers that an allowed origin may read."""
        port = self._ports.operations
        if port is not None and scope["type"] == "http":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin and _is_neighbour(origin, headers.get("host", ""), port):
                return await _allowing(self._app, (origin,))(scope, receive, send)
        return await self._usual(scope, receive, send)


def _allowing(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=_METHODS,
        allow_headers=("*",),
        expose_headers=_EXPOSED,
        max_age=_REMEMBERED_S,
    )


def _is_neighbour(origin: str, host: str, port: int) -> bool:
    """Whether a page comes from the operations port of the very host that is asked."""
    try:
        page, asked = urlsplit(origin), urlsplit(f"//{host}")
        return page.port == port and page.hostname is not None and page.hostname == asked.hostname
    except ValueError:
        return False
