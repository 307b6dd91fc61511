"""Refusals and failures, in the words of the protocol that was called."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from strata.app.callers.callers import KeyRefused, TierRefused
from strata.app.planning.plan import PlanRefused
from strata.app.scheduling.errors import DeadlinePassed, EngineFailure, NotServing, Overloaded, TooBusy
from strata.app.tokenizer import TextRefused, TokenizerBusy


@dataclass(slots=True, frozen=True)
class Kind:
    """What went wrong, as each protocol says it."""

    error_type: str  # text-embeddings-inference's word
    status: int
    openai_status: int
    openai_type: str
    openai_code: str | None
    reason: str  # the label in the metrics


_WRONG = "invalid_request_error"
VALIDATION = Kind("Validation", 422, 400, _WRONG, "invalid_value", "validation")
BATCH_SIZE = Kind("Validation", 422, 400, _WRONG, "invalid_value", "batch_size")
EMPTY = Kind("Empty", 400, 400, _WRONG, "empty_input", "empty")
TOO_LARGE = Kind("Validation", 413, 413, _WRONG, "request_too_large", "payload")
ENCODED = Kind("Validation", 415, 415, _WRONG, "unsupported_encoding", "encoding")
UNAUTHORIZED = Kind("Unauthorized", 401, 401, _WRONG, "invalid_api_key", "unauthorized")
FORBIDDEN = Kind("Forbidden", 403, 403, _WRONG, "tier_not_allowed", "forbidden")
NOT_FOUND = Kind("Validation", 404, 404, _WRONG, "unknown_url", "not_found")
MODEL_NOT_FOUND = Kind("Validation", 404, 404, _WRONG, "model_not_found", "not_found")
NOT_ALLOWED = Kind("Validation", 405, 405, _WRONG, "method_not_supported", "method")
OVERLOADED = Kind("Overloaded", 429, 429, "rate_limit_error", "rate_limit_exceeded", "overloaded")
RATE_LIMITED = Kind("Overloaded", 429, 429, "rate_limit_error", "rate_limit_exceeded", "rate")
TOO_BUSY = Kind("Overloaded", 503, 503, "server_error", "deadline_out_of_reach", "too_busy")
DEADLINE_PASSED = Kind("Overloaded", 504, 504, "server_error", "deadline_passed", "deadline")
BACKEND = Kind("Backend", 424, 500, "server_error", "engine_failure", "backend")
UNHEALTHY = Kind("Unhealthy", 503, 503, "server_error", "service_unavailable", "unhealthy")
INTERNAL = Kind("Backend", 500, 500, "server_error", "internal_error", "internal")


class Refusal(Exception):  # noqa: N818 - reads as what happened
    """A request that gets no embedding; ``field`` names what to change, where there is such a thing."""

    def __init__(self, kind: Kind, message: str, field: str | None = None, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.kind = kind
        self.field = field
        self.headers = headers or {}


def refusal_of(error: Exception) -> Refusal:
    """What an error of the rooms below means to a client; anything unknown is a fault of the server."""
    match error:
        case Refusal():
            return error
        case Overloaded():
            kind = TOO_BUSY if isinstance(error, TooBusy) else OVERLOADED
            return Refusal(kind, str(error), headers=retry_after(error.retry_after_s))
        case TokenizerBusy():
            return Refusal(OVERLOADED, str(error), headers=retry_after(1))
        case DeadlinePassed():
            return Refusal(DEADLINE_PASSED, str(error))
        case KeyRefused():
            challenge = 'Bearer error="invalid_token"' if error.given else "Bearer"
            return Refusal(UNAUTHORIZED, str(error), headers={"WWW-Authenticate": challenge})
        case TierRefused():
            return Refusal(FORBIDDEN if error.above else VALIDATION, str(error), "tier")
        case NotServing():
            return Refusal(UNHEALTHY, str(error) or "not serving", headers={"Retry-After": "1"})
        case EngineFailure():
            return Refusal(BACKEND, str(error))
        case PlanRefused():
            return Refusal(VALIDATION, str(error), error.field)
        case TextRefused():
            return Refusal(EMPTY if error.empty else VALIDATION, str(error), error.field)
        case HTTPException(status_code=404):
            return Refusal(NOT_FOUND, "no such path; /docs has all, as /embed, /v1/embeddings and Cohere's /v2/embed")
        case HTTPException(status_code=405):
            return Refusal(NOT_ALLOWED, "method not allowed", headers=dict(error.headers or {}))
        case _:
            return Refusal(INTERNAL, "internal error; the server's log has it under this request's id")


def retry_after(seconds: float) -> dict[str, str]:
    """The header; it takes whole seconds."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def misread(error: ValidationError) -> Refusal:
    """A body that is not JSON or not of the expected shape; the message names the field."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = str(first["loc"][0]) if first["loc"] else None
    if first["type"] == "json_invalid" and "unicode" in first["msg"]:
        return Refusal(VALIDATION, f"the body is not UTF-8; send JSON in UTF-8: {first['msg']}")
    if field is None:
        return Refusal(VALIDATION, f"the body is not valid JSON of the expected shape: {first['msg']}")
    where = ".".join(str(part) for part in first["loc"])
    return Refusal(VALIDATION, f"`{where}`: {first['msg'].removeprefix('Value error, ')}", field)


_OPENAI_NAMES = {"dim": "dimensions"}


def refusal_response(refusal: Refusal, path: str) -> Response:
    """The answer to a refused request, in the shape of the protocol that ``path`` belongs to."""
    kind, message = refusal.kind, str(refusal)
    body: dict[str, Any]
    if path.startswith("/v1/") or path == "/embeddings":
        status = kind.openai_status
        param = _OPENAI_NAMES.get(refusal.field or "", refusal.field)
        told = {"message": message, "type": kind.openai_type, "param": param, "code": kind.openai_code}
        body = {"error": told, "detail": message}  # Voyage's client, which asks on the same path, reads the second
    elif path.startswith("/v2/"):
        status = kind.openai_status
        body = {"message": message}
    else:
        status = kind.status
        body = {"error": message, "error_type": kind.error_type}
    return Response(orjson.dumps(body), status, refusal.headers, "application/json")


class TeiError(BaseModel):
    """An error as text-embeddings-inference shapes it."""

    error: str
    error_type: str


class CohereError(BaseModel):
    """An error as Cohere shapes it."""

    message: str


class OpenAIErrorDetail(BaseModel):
    """What is inside an OpenAI error."""

    message: str
    type: str
    param: str | None
    code: str | None


class OpenAIError(BaseModel):
    """An error as OpenAI shapes it, and as Voyage does."""

    error: OpenAIErrorDetail
    detail: str


_FULL = "The queue is full, or the rate of the key is used up; come back after `Retry-After` seconds"
_NOT_NOW = "Loading, draining, the engine is dead, or the deadline cannot be met with what is queued (`Retry-After`)"

TEI_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": TeiError, "description": "`inputs` is empty"},
    401: {"model": TeiError, "description": "No API key, or none that is known"},
    403: {"model": TeiError, "description": "The key does not reach the tier asked for"},
    413: {"model": TeiError, "description": "The body is larger than the server accepts"},
    415: {"model": TeiError, "description": "The body is compressed"},
    422: {"model": TeiError, "description": "A field has a value it cannot have; the message names it"},
    424: {"model": TeiError, "description": "The engine failed on this request"},
    429: {"model": TeiError, "description": _FULL},
    503: {"model": TeiError, "description": _NOT_NOW},
    504: {"model": TeiError, "description": "The deadline passed while the request waited"},
}


def answers(model: type[BaseModel], *errors: int) -> dict[int | str, dict[str, Any]]:
    """``responses`` of a route: its answer, and those of TEI's errors that it may give."""
    return {200: {"model": model}, **{status: TEI_ERRORS[status] for status in errors}}


OPENAI_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": OpenAIError, "description": "A field has a value it cannot have; `param` names it"},
    401: {"model": OpenAIError, "description": "No API key, or none that is known"},
    403: {"model": OpenAIError, "description": "The key does not reach the tier asked for"},
    413: {"model": OpenAIError, "description": "The body is larger than the server accepts"},
    415: {"model": OpenAIError, "description": "The body is compressed"},
    429: {"model": OpenAIError, "description": _FULL},
    500: {"model": OpenAIError, "description": "The engine failed on this request"},
    503: {"model": OpenAIError, "description": _NOT_NOW},
    504: {"model": OpenAIError, "description": "The deadline passed while the request waited"},
}
COHERE_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {**told, "model": CohereError} for status, told in OPENAI_ERRORS.items()
}
