"""Request bodies: read up to a limit, and read into a model in one go."""

from __future__ import annotations

from time import perf_counter
from typing import Annotated, Any, TypeVar, cast, overload

from pydantic import BaseModel, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema
from starlette.requests import Request

from strata.app.api.limits import RequestLimits
from strata.app.api.negotiation import as_utf8, check_encoding
from strata.app.api.refusals import TOO_LARGE, Refusal, misread
from strata.app.connections.departure import ClientLeft
from strata.app.headers import header_values
from strata.app.in_flight import InFlight
from strata.app.request_context import RequestContext

Body = TypeVar("Body", bound=BaseModel)


class OneError:
    """Gives a union one message instead of one for every branch that did not fit."""

    def __init__(self, message: str) -> None:
        self._message = message

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        union = {**handler(source), "custom_error_type": "shape", "custom_error_message": self._message}
        return cast(CoreSchema, union)


class FirstError:
    """Ends a list at its first element that does not fit; else a million of them are noted, for seconds.

    As pydantic's FailFast, which cannot be hashed and so not be part of a union.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return cast(CoreSchema, {**handler(source), "fail_fast": True})


Strings = Annotated[list[str], FirstError()]
Ids = Annotated[list[int], FirstError()]
IdLists = Annotated[list[Ids], FirstError()]
Inputs = Annotated[
    str | Strings | Ids | IdLists,
    OneError("must be a string, a list of strings, a list of token ids or a list of lists of token ids"),
    Field(union_mode="left_to_right"),
]


@overload
def listed(texts: str | list[str]) -> tuple[list[str], str]: ...
@overload
def listed(texts: list[int] | list[list[int]]) -> tuple[list[list[int]], str]: ...
@overload
def listed(texts: str | list[str] | list[int] | list[list[int]]) -> tuple[list[str] | list[list[int]], str]: ...
def listed(texts: str | list[str] | list[int] | list[list[int]]) -> tuple[list[str] | list[list[int]], str]:
    """The texts of a request as a list, and whether it was "single" or a "batch"."""
    if isinstance(texts, str):
        return [texts], "single"
    if texts and isinstance(texts[0], int):
        return [texts], "single"
    return cast(list[str] | list[list[int]], texts), "batch"


async def read(request: Request, model: type[Body]) -> Body:
    """The body of a request as ``model``. Raises Refusal (413 without reading on, or what does not fit).

    Raises Overloaded when the bodies in flight are as much as it holds.
    """
    check_encoding(header_values(request.scope, b"content-encoding"))
    raw = as_utf8(await _bytes(request))
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise misread(error) from error


async def _bytes(request: Request) -> bytes:
    limits: RequestLimits = request.app.state.limits
    in_flight: InFlight = request.app.state.in_flight
    limit = limits.body_bytes
    announced = header_values(request.scope, b"content-length")
    if announced and announced[0].isdigit() and int(announced[0]) > limit:
        raise _too_large(limit)
    context = RequestContext.of(request.scope)
    began = perf_counter()
    chunks, size, more = [], 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        in_flight.hold(len(chunk))
        context.body_bytes += len(chunk)
        chunks.append(chunk)
        more = message.get("more_body", False)
    context.upload_s = perf_counter() - began
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(limit: int) -> Refusal:
    return Refusal(TOO_LARGE, f"the body is larger than the limit of {limit} bytes (--payload-limit)")
