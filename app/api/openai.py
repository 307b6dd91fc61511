"""`POST /v1/embeddings` and `GET /v1/models`, as OpenAI has them, with `layers`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from strata.app.api.ask import ASK_DOCS, ask_of
from strata.app.api.body import Inputs, listed, read
from strata.app.api.elastic_body import ElasticBody
from strata.app.api.embed import TextOptions
from strata.app.api.embedder import Embedder, Texts
from strata.app.api.header_docs import OPENAPI
from strata.app.api.output import OutputOptions, as_type, check_output, headers, row_by_row, rows_for_json
from strata.app.api.plain_route import PlainRoute, body_docs
from strata.app.api.refusals import MODEL_NOT_FOUND, OPENAI_ERRORS, VALIDATION, OpenAIError, Refusal
from strata.app.api.responses import json_response
from strata.app.docs.api_page import SAME_AS
from strata.app.headers import header_values
from strata.app.lifecycle import Lifecycle
from strata.model_store.bundle.registry import DEFAULT

router = APIRouter(route_class=PlainRoute, tags=["OpenAI"])


class EmbeddingsRequest(TextOptions, OutputOptions, ElasticBody):
    """OpenAI's request. `model` is accepted whatever it says: one model is served, and the answer names it."""

    input: Annotated[Inputs, Field(description="One text, several, or token ids of one or of several.")]
    model: Annotated[str | None, Field(description="Anything: one model is served, and the answer names it.")] = None
    normalize: Annotated[bool, Field(description="Scale every vector to length 1, after it was cut.")] = True
    truncation: Annotated[bool | None, Field(description="The same as `truncate`, as Voyage calls it.")] = None
    user: Annotated[str | None, Field(description="Ignored.")] = None


class Embedding(BaseModel):
    """One vector, as numbers or as base64 of their bytes."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | list[int] | str


class Usage(BaseModel):
    """Tokens run."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    """OpenAI's answer."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage


class Model(BaseModel):
    """A served model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class Models(BaseModel):
    """The one model that is served."""

    object: Literal["list"]
    data: list[Model]


_DOCS = body_docs(
    EmbeddingsRequest,
    examples={
        "one text": {"input": "Deep learning in a nutshell", "model": "strata"},
        "half the layers": {"input": ["A first text", "A second text"], "layers": 6, "dimensions": 256},
    },
    parameters=ASK_DOCS,
)


_ANSWERS: dict[int | str, Any] = {200: {"model": EmbeddingsAnswer, "headers": OPENAPI}, **OPENAI_ERRORS}
_NOT_READY: dict[int | str, Any] = {401: OPENAI_ERRORS[401], 503: OPENAI_ERRORS[503]}
_NAME_DOCS = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "description": "The model's name, as `GET /v1/models` tells it.",
    "example": DEFAULT,
}


@router.post("/v1/embeddings", openapi_extra=_DOCS, responses=_ANSWERS)
async def create_embeddings(request: Request) -> Response:
    """Embed texts; `dimensions` is the length of the vectors, `layers` how many layers run."""
    embedder: Embedder = request.app.state.embedder
    body = await read(request, EmbeddingsRequest)
    inputs, method = listed(body.input)
    embedder.limits.check_texts(len(inputs), "input")
    ask = ask_of(request.scope, body)
    served, kind = embedder.served(), ask.output_dtype or "float"
    check_output(served, kind, ask, "output_dtype", normalize=body.normalize)
    if kind != "float" and body.encoding_format == "base64" and header_values(request.scope, b"x-stainless-lang"):
        message = 'OpenAI\'s client reads base64 as float32: with `output_dtype` give `encoding_format="float"`'
        raise Refusal(VALIDATION, message, "encoding_format")
    if body.truncate is None:
        body.truncate = body.truncation
    texts = Texts(inputs, method, body.encode(embedder.limits, "input"), body.normalize)
    embedded = await embedder.embed(request, texts, ask)
    answer = embedded.answer
    numbers = as_type(served, embedded, kind, "output_dtype")
    rows = row_by_row(await rows_for_json(numbers, body, embedder.writers))
    content = {
        "object": "list",
        "data": [{"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)],
        "model": served.name,
        "usage": {"prompt_tokens": answer.tokens, "total_tokens": answer.tokens},
    }
    return json_response(content, partial(headers, served, embedded, kind))


router.add_api_route(
    "/embeddings",
    create_embeddings,
    methods=["POST"],
    openapi_extra={**_DOCS, SAME_AS: "/v1/embeddings"},
    responses=_ANSWERS,
)


@router.get("/v1/models", responses={200: {"model": Models}, **_NOT_READY})
async def list_models(request: Request) -> Response:
    """The served model."""
    return json_response({"object": "list", "data": [_model(request)]})


@router.get(
    "/v1/models/{name:path}",
    openapi_extra={"parameters": [_NAME_DOCS]},
    responses={
        200: {"model": Model},
        404: {"model": OpenAIError, "description": "Another model is served"},
        **_NOT_READY,
    },
)
async def get_model(request: Request) -> Response:
    """The served model, by its name."""
    model = _model(request)
    if request.path_params["name"] != model["id"]:
        raise Refusal(MODEL_NOT_FOUND, f"the model served is `{model['id']}`", "model")
    return json_response(model)


def _model(request: Request) -> dict[str, Any]:
    lifecycle: Lifecycle = request.app.state.lifecycle
    return {"id": lifecycle.opened().name, "object": "model", "created": lifecycle.born, "owned_by": "strata"}
