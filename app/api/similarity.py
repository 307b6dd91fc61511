"""`POST /similarity`, as text-embeddings-inference has it, with `layers` and `dim`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from strata.app.api.ask import ASK_DOCS, ask_of, refuse_within
from strata.app.api.body import Strings, read
from strata.app.api.elastic_body import ElasticBody
from strata.app.api.embed import TextOptions
from strata.app.api.embedder import Embedder, Texts
from strata.app.api.header_docs import OPENAPI
from strata.app.api.plain_route import PlainRoute, body_docs
from strata.app.api.refusals import EMPTY, TEI_ERRORS, VALIDATION, Refusal
from strata.app.api.responses import json_response

router = APIRouter(route_class=PlainRoute, tags=["text-embeddings-inference"])


_COMPARED = "`source_sentence`, the text that is compared, and `sentences`, those it is compared with."
_PARAMETERS = "`truncate`, `truncation_direction` and `prompt_name`, as `/embed` has them."


class Comparison(BaseModel):
    """One sentence, and those it is compared with."""

    model_config = ConfigDict(strict=True, extra="allow")

    source_sentence: Annotated[str, Field(description="The one that is compared.")]
    sentences: Annotated[Strings, Field(description="Those it is compared with.")]


class Parameters(TextOptions):
    """How the sentences become tokens."""

    model_config = ConfigDict(strict=True, extra="allow")


class SimilarityRequest(ElasticBody):
    """Sentences to compare."""

    inputs: Annotated[Comparison, Field(description=_COMPARED)]
    parameters: Annotated[Parameters | None, Field(description=_PARAMETERS)] = None


_DOCS = body_docs(
    SimilarityRequest,
    examples={
        "two sentences": {
            "inputs": {"source_sentence": "A man is eating.", "sentences": ["Somebody eats.", "It is raining."]},
            "layers": 6,
        }
    },
    parameters=ASK_DOCS,
)


@router.post(
    "/similarity", openapi_extra=_DOCS, responses={200: {"model": list[float], "headers": OPENAPI}, **TEI_ERRORS}
)
async def similarity(request: Request) -> Response:
    """Cosine similarity of one sentence to each of the others, all embedded at the same depth."""
    embedder: Embedder = request.app.state.embedder
    body = await read(request, SimilarityRequest)
    embedder.limits.check_texts(len(body.inputs.sentences), "inputs.sentences")
    parameters = body.parameters or Parameters()
    refuse_within(body.inputs.model_extra or {}, "inputs")
    refuse_within(parameters.model_extra or {}, "parameters")
    _check_empty(body.inputs)
    how = parameters.encode(embedder.limits)
    ask = ask_of(request.scope, body)
    if ask.output_dtype:
        raise Refusal(VALIDATION, "`output_dtype` is of vectors, and the answer here has none", "output_dtype")
    if ask.layers == "auto":
        told = '`layers` "auto" gives each sentence a depth of its own, and those do not compare; name one'
        raise Refusal(VALIDATION, told, "layers")
    sentences = [body.inputs.source_sentence, *body.inputs.sentences]
    embedded = await embedder.embed(request, Texts(sentences, "batch", how), ask)
    vectors = embedded.answer.vectors
    return json_response(vectors[1:] @ vectors[0], embedded.headers)


def _check_empty(inputs: Comparison) -> None:
    place = None if inputs.source_sentence else "source_sentence"
    if not all(inputs.sentences):
        place = place or f"sentences[{inputs.sentences.index('')}]"
    if place:
        raise Refusal(EMPTY, f"`inputs.{place}` cannot be empty", "inputs")
