"""The context of one request: its id, its caller, and what is noted about it on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from time import perf_counter

from starlette.types import Scope

from strata.app.callers.callers import Caller
from strata.app.connections.intake import came
from strata.app.headers import header_text

_KEY = "strata.context"
_LONGEST_ID = 128
_IDS = Random()  # nothing depends on whether an id can be guessed, and the system's own costs ten times as much


@dataclass(slots=True)
class RequestContext:
    """What the log line and the answer's headers say about a request."""

    id: str
    echoed: bytes  # the id as it goes into the answer
    started: float  # when it came, as `perf_counter` counts
    status: int = 0  # 0 until an answer has begun
    caller: Caller | None = None  # None on paths that are open to everybody
    body_bytes: int = 0  # of its body, counted as in flight until the request is over
    upload_s: float = 0.0  # seconds that the server waited for its body
    facts: dict[str, object] = field(default_factory=dict)  # for the log: layers, dim, texts, tokens, the error
    stages: tuple[tuple[str, float, float], ...] = ()  # name, begin and end, as ``started`` counts

    @classmethod
    def begin(cls, scope: Scope) -> RequestContext:
        """The context of a new request, kept in its scope; its id is the caller's X-Request-Id where that is safe."""
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        if not 0 < len(given) <= _LONGEST_ID or not header_text(given).isprintable():
            given = b"%016x" % _IDS.getrandbits(64)
        context = cls(header_text(given), given, came(scope))
        scope[_KEY] = context
        return context

    @staticmethod
    def of(scope: Scope) -> RequestContext:
        """The context of a request that has begun."""
        context: RequestContext = scope[_KEY]
        return context

    @property
    def known_caller(self) -> Caller:
        """The caller, on paths that ask who it is."""
        assert self.caller is not None
        return self.caller

    @property
    def seconds(self) -> float:
        """Since the request came in."""
        return perf_counter() - self.started
