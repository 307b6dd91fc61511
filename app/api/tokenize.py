"""`POST /tokenize` and `POST /decode`, as text-embeddings-inference has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from strata.app.api.ask import refuse_asks
from strata.app.api.body import IdLists, Ids, OneError, Strings, listed, read
from strata.app.api.limits import RequestLimits
from strata.app.api.plain_route import PlainRoute, body_docs
from strata.app.api.rates import rate_taken
from strata.app.api.refusals import TEI_ERRORS, VALIDATION, Refusal
from strata.app.api.responses import json_response
from strata.app.in_flight import InFlight
from strata.app.lifecycle import Lifecycle
from strata.app.request_context import RequestContext
from strata.app.telemetry.metrics import Metrics
from strata.app.tokenizer import Tokenizer

# Characters, or token ids, of one request. Describing a token takes 5 us with the interpreter held, and 600 bytes.
_MOST_IN_ALL = 200_000

router = APIRouter(route_class=PlainRoute, tags=["text-embeddings-inference"])


class TokenizeRequest(BaseModel):
    """Texts to tokenize."""

    model_config = ConfigDict(strict=True, extra="allow")

    inputs: Annotated[
        str | Strings,
        OneError("must be a string or a list of strings"),
        Field(description="One text, or several."),
    ]
    add_special_tokens: Annotated[bool, Field(description="With the tokens the model puts around a text.")] = True
    prompt_name: Annotated[str | None, Field(description="Prompt put before every text.")] = None


class DecodeRequest(BaseModel):
    """Token ids to turn back into texts."""

    model_config = ConfigDict(strict=True, extra="allow")

    ids: Annotated[
        Ids | IdLists,
        OneError("must be a list of token ids or a list of lists of token ids"),
        Field(description="The token ids of one text, or of several."),
    ]
    skip_special_tokens: Annotated[bool, Field(description="Without the tokens that the model puts around a text.")] = (
        True
    )


class SimpleToken(BaseModel):
    """A token; `start` and `stop` are byte offsets in the text, null for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


_TOKENIZE_DOCS = body_docs(TokenizeRequest, examples={"one text": {"inputs": "Deep learning in a nutshell"}})
_DECODE_DOCS = body_docs(DecodeRequest, examples={"one text": {"ids": [101, 2784, 4083, 102]}})


@router.post(
    "/tokenize", openapi_extra=_TOKENIZE_DOCS, responses={200: {"model": list[list[SimpleToken]]}, **TEI_ERRORS}
)
async def tokenize(request: Request) -> Response:
    """The tokens of each text, uncut, and where each lies in it; of at most 200,000 characters in all."""
    body = await read(request, TokenizeRequest)
    refuse_asks(request.scope, body)
    inputs, _ = listed(body.inputs)
    _check_length(inputs, "inputs", "characters")
    with _admitted(request, len(inputs), "inputs") as tokenizer:
        tokens = await tokenizer.tokens(
            inputs,
            add_special_tokens=body.add_special_tokens,
            prompt_name=body.prompt_name,
        )
        return json_response(tokens)


@router.post("/decode", openapi_extra=_DECODE_DOCS, responses={200: {"model": list[str]}, **TEI_ERRORS})
async def decode(request: Request) -> Response:
    """The texts that token ids stand for; at most 200,000 in all."""
    body = await read(request, DecodeRequest)
    refuse_asks(request.scope, body)
    ids, _ = listed(body.ids)
    _check_length(ids, "ids", "ids")
    with _admitted(request, len(ids), "ids") as tokenizer:
        return json_response(await tokenizer.decode(ids, skip_special_tokens=body.skip_special_tokens))


@contextmanager
def _admitted(request: Request, texts: int, field: str) -> Iterator[Tokenizer]:
    """The tokenizer, for as many texts as one request may have and the key's rate allows."""
    limits: RequestLimits = request.app.state.limits
    in_flight: InFlight = request.app.state.in_flight
    lifecycle: Lifecycle = request.app.state.lifecycle
    metrics: Metrics = request.app.state.metrics
    limits.check_texts(texts, field)
    caller = RequestContext.of(request.scope).known_caller
    with rate_taken(caller, texts, metrics), in_flight.slot():
        yield lifecycle.opened().tokenizer


def _check_length(inputs: list[str] | list[list[int]], field: str, unit: str) -> None:
    length = sum(map(len, inputs))
    if length > _MOST_IN_ALL:
        raise Refusal(VALIDATION, f"`{field}`: at most {_MOST_IN_ALL} {unit} in one request. Given: {length}", field)
