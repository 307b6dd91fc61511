"""One request's stay in the house: its id, and what is noted about it on the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from secrets import token_hex
from time import perf_counter

from starlette.types import Scope

from strata.app.callers.callers import Caller
from strata.app.headers import header_text

_KEY = "strata.visit"
_LONGEST_ID = 128


@dataclass(slots=True)
class Visit:
    """What the log line and the answer's headers say about a request."""

    id: str
    mark: bytes  # the id as it is echoed
    started: float = field(default_factory=perf_counter)
    status: int = 0  # 0 until an answer has begun
    caller: Caller | None = None  # None where the door asks nobody who they are
    body_bytes: int = 0  # of its body, held until the visit ends
    facts: dict[str, object] = field(default_factory=dict)  # for the log: layers, dim, texts, tokens, the error
    stages: list[tuple[str, float, float]] = field(default_factory=list)  # name, begin and end, as ``started`` counts

    @classmethod
    def enter(cls, scope: Scope) -> Visit:
        """Begin the visit of a request; its id is the caller's X-Request-Id if that can be echoed safely."""
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        if not 0 < len(given) <= _LONGEST_ID or not header_text(given).isprintable():
            given = token_hex(8).encode()
        visit = cls(header_text(given), given)
        scope[_KEY] = visit
        return visit

    @staticmethod
    def of(scope: Scope) -> Visit:
        """The visit a request belongs to."""
        visit: Visit = scope[_KEY]
        return visit

    @property
    def seconds(self) -> float:
        """Since the request came in."""
        return perf_counter() - self.started
