"""`POST /v2/embed`, as Cohere has it, with `layers` and the budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter
from pydantic import BaseModel, Field, WithJsonSchema, field_validator
from starlette.requests import Request
from starlette.responses import Response

from strata.app.api.ask import ASK_DOCS, ask_of
from strata.app.api.body import FirstError, Strings, read
from strata.app.api.elastic_body import ElasticBody
from strata.app.api.embedder import Embedder, Texts
from strata.app.api.header_docs import OPENAPI
from strata.app.api.output import all_rows, as_type, base64_rows, check_output, headers
from strata.app.api.plain_route import PlainRoute, body_docs
from strata.app.api.refusals import COHERE_ERRORS, VALIDATION, Refusal
from strata.app.api.responses import json_response
from strata.app.planning.plan import Ask
from strata.app.tokenizer import Encode
from strata.model_store.bundle.output_types import OutputType, coarsest
from strata.model_store.bundle.prompts import InputType

router = APIRouter(route_class=PlainRoute, tags=["Cohere"])

EmbeddingType = Literal["float", "int8", "uint8", "binary", "ubinary", "base64"]
_DEFAULT: tuple[EmbeddingType, ...] = ("float",)
# Cohere's words for what a text is: those that Strata makes no difference for are like none.
_INPUT_TYPES: dict[str, InputType | None] = {
    "search_query": "query",
    "search_document": "document",
    "classification": None,
    "clustering": None,
    "query": "query",
    "document": "document",
}


class CohereRequest(ElasticBody):
    """Cohere's request. `model` is accepted whatever it says: one model is served."""

    texts: Annotated[Strings | None, Field(description="The texts; this or `inputs`.")] = None
    inputs: Annotated[
        Annotated[list[dict[str, Any]], FirstError()] | None,
        Field(description='The same as `texts`, each as `{"content": [{"type": "text", "text": "..."}]}`.'),
    ] = None
    images: Annotated[list[str] | None, Field(description="Refused: this model embeds texts.")] = None
    model: Annotated[str | None, Field(description="Anything: one model is served.")] = None
    embedding_types: Annotated[
        Annotated[list[EmbeddingType], FirstError()] | None,
        Field(description="One or several; base64 is that of float. Default: float."),
    ] = None
    truncate: Annotated[
        Literal["NONE", "START", "END"], Field(description="The side that is cut off where a text is too long.")
    ] = "END"
    max_tokens: Annotated[
        int | None, Field(description="No less than the model's own maximum: texts are cut at that one alone.")
    ] = None

    input_type: Annotated[
        InputType | None,
        WithJsonSchema({"anyOf": [{"enum": [*_INPUT_TYPES]}, {"type": "null"}]}),
        Field(description="What the texts are, in Cohere's words or Strata's own."),
    ] = None

    @field_validator("input_type", mode="before")
    @classmethod
    def _in_our_words(cls, given: object) -> object:
        if given == "image":
            raise ValueError("images are not embedded here")
        if isinstance(given, str) and given not in _INPUT_TYPES:
            raise ValueError(f"must be one of {', '.join(_INPUT_TYPES)}. Given: {given[:50]}")
        return _INPUT_TYPES[given] if isinstance(given, str) else given

    def types(self, ask: Ask) -> Sequence[EmbeddingType]:
        """The types to tell: Cohere's field, or Strata's own option of one. Raises Refusal where they differ."""
        if ask.output_dtype is None:
            return self.embedding_types or _DEFAULT
        if self.embedding_types and set(self.embedding_types) != {ask.output_dtype}:
            given = ", ".join(dict.fromkeys(self.embedding_types))
            message = f"`embedding_types` is {given}, `output_dtype` is {ask.output_dtype}: leave one of them out"
            raise Refusal(VALIDATION, message, "embedding_types")
        return (ask.output_dtype,)

    def listed(self) -> list[str]:
        """The texts, whichever way they came. Raises Refusal."""
        if self.images:
            raise Refusal(VALIDATION, "`images`: this model embeds texts", "images")
        if (self.texts is None) == (self.inputs is None):
            raise Refusal(VALIDATION, "`texts` must be given: a list of strings", "texts")
        return self.texts if self.texts is not None else [_text(n, item) for n, item in enumerate(self.inputs or ())]


def _text(number: int, item: dict[str, Any]) -> str:
    content = item.get("content")
    parts = [_part(part) for part in content] if isinstance(content, list) else []
    if not parts or None in parts:
        message = f'`inputs[{number}]` must be `{{"content": [{{"type": "text", "text": "..."}}]}}`'
        raise Refusal(VALIDATION, message, "inputs")
    return "\n".join(part for part in parts if part is not None)


def _part(part: object) -> str | None:
    text = part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else None
    return text if isinstance(text, str) else None


Number = float  # whose name a field of the next takes


class CohereEmbeddings(BaseModel):
    """Vectors, one list a type that was asked for."""

    float: list[list[Number]] | None = None
    int8: list[list[int]] | None = None
    uint8: list[list[int]] | None = None
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None
    base64: list[str] | None = None


class CohereAnswer(BaseModel):
    """Cohere's answer."""

    id: str
    texts: list[str]
    embeddings: CohereEmbeddings
    meta: dict[str, Any]
    response_type: Literal["embeddings_by_type"]


_DOCS = body_docs(
    CohereRequest,
    examples={
        "bytes and bits at once": {
            "texts": ["A first text", "A second text"],
            "input_type": "search_document",
            "embedding_types": ["int8", "ubinary"],
            "output_dimension": 256,
        }
    },
    parameters=ASK_DOCS,
)


@router.post(
    "/v2/embed", openapi_extra=_DOCS, responses={200: {"model": CohereAnswer, "headers": OPENAPI}, **COHERE_ERRORS}
)
async def embed_by_type(request: Request) -> Response:
    """Embed texts once, and return the vectors in every type that is asked for."""
    embedder: Embedder = request.app.state.embedder
    body = await read(request, CohereRequest)
    inputs = body.listed()
    embedder.limits.check_texts(len(inputs), "texts")
    ask, served = ask_of(request.scope, body), embedder.served()
    if body.max_tokens is not None and body.max_tokens < served.manifest.max_tokens:
        longest = served.manifest.max_tokens
        message = f"`max_tokens`: texts are cut at {longest} tokens and no sooner; leave it out, or send shorter texts"
        raise Refusal(VALIDATION, message, "max_tokens")
    kinds: dict[EmbeddingType, OutputType] = {}
    for name in body.types(ask):
        kinds[name] = "float" if name == "base64" else name
    ask = replace(ask, output_dtype=coarsest(kinds.values()))  # which its quality is of
    for kind in kinds.values():
        check_output(served, kind, ask, "embedding_types", normalize=True)
    how = Encode(body.truncate != "NONE", "Left" if body.truncate == "START" else "Right", field="texts")
    embedded = await embedder.embed(request, Texts(inputs, "batch", how), ask)
    found = {name: as_type(served, embedded, kind, "embedding_types") for name, kind in kinds.items()}
    content = {
        "id": str(uuid4()),
        "texts": inputs,
        "embeddings": {
            name: base64_rows(rows) if name == "base64" else all_rows(await embedder.writers.json(rows))
            for name, rows in found.items()
        },
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": embedded.answer.tokens}},
        "response_type": "embeddings_by_type",
    }
    return json_response(content, partial(headers, served, embedded, *kinds.values()))
