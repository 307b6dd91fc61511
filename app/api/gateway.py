"""The gateway: every request gets an id, its key is checked, faults are told in its protocol, and it is logged."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import lru_cache

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from strata.app.api.plain_route import Endpoint, PlainRoute
from strata.app.api.refusals import INTERNAL, NOT_ALLOWED, NOT_FOUND, TOO_BUSY, Refusal, refusal_of, refusal_response
from strata.app.callers.callers import Caller, Callers
from strata.app.connections.departure import ClientLeft
from strata.app.connections.intake import crowded
from strata.app.connections.ports import Ports
from strata.app.connections.response_writer import Whole
from strata.app.in_flight import InFlight
from strata.app.request_context import RequestContext
from strata.app.scheduling.errors import TooBusy
from strata.app.telemetry import logs
from strata.app.telemetry.metrics import Metrics
from strata.app.tracing import Tracing

_CLIENT_LEFT = 499  # nginx's status for it; only ever logged
_SERVER = "*"  # the target of a request about the server itself, as in `OPTIONS *`
_OPEN = frozenset({"/health", "/ready", _SERVER})  # to everybody, on every port
_OPERATIONS = frozenset({"/metrics", "/info", "/now"})
_GUIDE = ("/guide", "/llms.txt")  # open to everybody, on every port: text that comes with every copy
_PAGES = ("/ui", "/docs", "/openapi.json")  # on the port of operations, without a key: what they ask for needs one
_REFUSED = 400  # the least status that is no success
_LOGGED = 200  # characters of a path that are written to the log
_CROWD_RETRY_S = 1.0
_CROWDED = "more requests of this caller wait than this server can read in time"
_QUIET = frozenset({"/health", "/ready", "/metrics", "/now"})  # asked every few seconds by machines


class Gateway:
    """What every request passes first: pure ASGI, so that it costs one call and one header."""

    def __init__(
        self,
        app: ASGIApp,
        direct: Mapping[tuple[str, str], Endpoint],
        callers: Callers,
        in_flight: InFlight,
        metrics: Metrics,
        ports: Ports,
        tracing: Tracing | None,
    ) -> None:
        self._app = app
        self._direct = direct
        self._callers = callers
        self._in_flight = in_flight
        self._metrics = metrics
        self._ports = ports
        self._tracing = tracing
        self._methods: dict[str, list[str]] = {}
        for method, path in sorted(direct):
            self._methods.setdefault(path, []).extend(["GET", "HEAD"] if method == "GET" else [method])
        self._methods[_SERVER] = sorted({method for methods in self._methods.values() for method in methods})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        scope = self._as_routed(scope)
        context = RequestContext.begin(scope)

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                context.status = message["status"]
                message["headers"].append((b"x-request-id", context.echoed))
            await send(message)

        try:
            if scope["path"] not in _OPEN and not scope["path"].startswith(_GUIDE):
                self._find_caller(scope, context)
                self._check_crowd(scope, context)
            endpoint = self._direct.get((scope["method"], scope["path"]))
            if endpoint is None and scope["path"] in self._methods:
                endpoint = self._other_method
            if endpoint is None:
                await self._app(scope, receive, send_marked)
            else:
                answer = await endpoint(Request(scope, receive))
                answer.raw_headers.append((b"x-request-id", context.echoed))
                context.status = answer.status_code
                await answer(scope, receive, send)
        except ClientLeft:
            self._metrics.client_left()
            context.status = _CLIENT_LEFT
        except Exception as error:
            refusal = refusal_of(error)
            if refusal.kind is INTERNAL:
                facts = {"id": context.id, "path": scope["path"]}
                logs.event("request_failed", facts, level=logging.ERROR, error=error)
            if context.status:  # the answer had begun; all that is left is to break it off
                raise
            self._metrics.request_failed(refusal.kind.reason)
            context.facts["error"] = str(refusal)
            await refusal_response(refusal, scope["path"])(scope, receive, send_marked)
        finally:
            self._in_flight.release(context.body_bytes)
            self._log(scope, context)

    def turn_away(self, scope: Scope, caller: Caller) -> Whole:
        """The whole answer to a request that is crowded out, made from its head alone."""
        scope = self._as_routed(scope)
        context = RequestContext.begin(scope)
        context.caller = caller
        self._metrics.tier_refused(caller.own.name, "intake")
        self._metrics.request_failed(TOO_BUSY.reason)
        told = _told_crowded(scope["path"])
        context.status = told.status_code
        context.facts["error"] = _CROWDED
        self._log(scope, context)
        return told.status_code, [*told.raw_headers, (b"x-request-id", context.echoed)], bytes(told.body)

    def _as_routed(self, scope: Scope) -> Scope:
        """The request as routes know it: HEAD as GET, the path without --root-path and without a slash at its end."""
        path: str = scope["path"]
        root: str = scope.get("root_path", "")
        if root and path not in self._methods and (path == root or path.startswith(root + "/")):
            path = path[len(root) :] or "/"
        if path[-1:] == "/":
            path = path.rstrip("/") or "/"
        if scope["method"] == "HEAD" or path != scope["path"]:
            # A copy: the response writer reads the original method, to know whether a body belongs to the answer.
            return {**scope, "method": "GET" if scope["method"] == "HEAD" else scope["method"], "path": path}
        return scope

    async def _other_method(self, request: Request) -> Response:
        """A path of ours, and a method that it does not have."""
        allowed = ", ".join(self._methods[request.scope["path"]])
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": allowed})
        if request.scope["path"] == _SERVER:
            allowed = "OPTIONS"
        message = f"`{request.scope['path'][:_LOGGED]}` takes {allowed}, not {request.method}"
        raise Refusal(NOT_ALLOWED, message, headers={"Allow": allowed})

    def _find_caller(self, scope: Scope, context: RequestContext) -> None:
        """Find the caller by its key. Raises Refusal for a path that is on another port, KeyRefused without a key."""
        port, path = self._ports.operations, scope["path"]
        if path == "/" and scope["method"] == "GET":  # names the other places: open, on every port
            return
        page = path.startswith(_PAGES) and any(path == each or path.startswith(each + "/") for each in _PAGES)
        if port is not None:
            here = scope["server"][1] == port
            if here is not (page or path in _OPERATIONS):
                raise Refusal(NOT_FOUND, "this path is not on this port")
            if here:
                return
        if page:
            return
        context.caller = self._callers.caller(scope["headers"])

    def _check_crowd(self, scope: Scope, context: RequestContext) -> None:
        """Refuse a request that `Intake` marked as crowded out. Raises TooBusy."""
        if crowded(scope):
            if context.caller:
                self._metrics.tier_refused(context.caller.own.name, "intake")
            raise TooBusy(_CROWDED, _CROWD_RETRY_S)

    def _log(self, scope: Scope, context: RequestContext) -> None:
        """The request's log line, and its spans where there are any."""
        if scope["path"] in _QUIET or not (self._tracing or logs.takes_requests()):
            return
        if self._tracing:
            self._tracing.record(context, scope["method"], scope["path"], scope["headers"])
        if context.status >= _REFUSED:  # who it was, to tell one client's mistakes from everybody's
            if not crowded(scope):  # before anybody has asked whether a proxy sent it for another
                context.facts["client"] = scope["client"][0] if scope["client"] else "local"
            if context.caller:
                context.facts.setdefault("tier", context.caller.own.name)
        logs.request(
            {
                "id": context.id,
                "method": scope["method"],
                "path": scope["path"][:_LOGGED],
                "status": context.status,
                **context.facts,
                "ms": round(context.seconds * 1000, 2),
            }
        )


@lru_cache(64)
def _told_crowded(path: str) -> Response:
    """In the protocol that the path belongs to; many are told the same in a flood."""
    return refusal_response(refusal_of(TooBusy(_CROWDED, _CROWD_RETRY_S)), path)


def direct(routers: Iterable[APIRouter]) -> dict[tuple[str, str], Endpoint]:
    """Endpoints of the plain routes by (method, path), so that the gateway can call them without asking the routers.

    FastAPI's router and the stacks it opens for dependencies take 160 us of a request, as much as everything of ours
    but the tokenizer, and these routes use none of it. It serves what is not here: paths with parameters, 404.
    """
    routes = [route for router in routers for route in router.routes if isinstance(route, PlainRoute)]
    plain = [route for route in routes if not route.param_convertors]
    return {(method, route.path): route.endpoint for route in plain for method in route.methods or ()}
