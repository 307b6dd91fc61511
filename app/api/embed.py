"""`POST /embed`, as text-embeddings-inference has it, with `layers` and `dim`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from strata.app.api.ask import ASK_DOCS, ask_of
from strata.app.api.body import Inputs, OneError, listed, read
from strata.app.api.elastic_body import ElasticBody
from strata.app.api.embedder import Embedder, Texts
from strata.app.api.header_docs import OPENAPI
from strata.app.api.limits import RequestLimits
from strata.app.api.negotiation import preferred
from strata.app.api.output import OutputOptions, as_type, check_output, headers, little_endian, rows_for_json
from strata.app.api.plain_route import PlainRoute, body_docs
from strata.app.api.refusals import TEI_ERRORS
from strata.app.api.responses import JSON, RAW, json_response, raw_response
from strata.app.docs.api_page import SAME_AS
from strata.app.headers import header_values
from strata.app.tokenizer import Encode

router = APIRouter(route_class=PlainRoute, tags=["text-embeddings-inference"])


class TextOptions(BaseModel):
    """How texts become tokens, in TEI's words."""

    model_config = ConfigDict(strict=True)

    truncate: Annotated[
        Annotated[bool | Literal["NONE", "START", "END"], OneError('must be true, false, "NONE", "START" or "END"')]
        | None,
        Field(
            description="Cut texts that are too long; START and END also say from which side. Default: the server's "
            "`auto_truncate`."
        ),
    ] = None
    truncation_direction: Annotated[
        Literal["Right", "Left", "right", "left"], Field(description="The side that is cut off.")
    ] = "Right"
    prompt_name: Annotated[str | None, Field(description="Prompt put before every text; one of those in `/info`.")] = (
        None
    )

    def encode(self, limits: RequestLimits, field: str = "inputs") -> Encode:
        """These options as the tokenizer takes them."""
        truncate = limits.truncate if self.truncate is None else self.truncate not in (False, "NONE")
        left = self.truncate == "START" or (self.truncate != "END" and self.truncation_direction in ("Left", "left"))
        return Encode(truncate, "Left" if left else "Right", self.prompt_name, field)


class EmbedRequest(TextOptions, OutputOptions, ElasticBody):
    """Texts to embed: one string or many, or token ids of the model's own vocabulary, taken as they are."""

    inputs: Annotated[Inputs, Field(description="One text, several, or token ids of one or of several.")]
    normalize: Annotated[bool, Field(description="Scale every vector to length 1, after it was cut.")] = True


_DOCS = body_docs(
    EmbedRequest,
    examples={
        "one text": {"inputs": "Deep learning in a nutshell"},
        "half the layers": {"inputs": ["A first text", "A second text"], "layers": 6, "dim": 256},
    },
    parameters=ASK_DOCS,
)
_RAW_DOCS = {
    "description": "One vector a text, in order. The headers tell the layers and dim that were run.",
    "content": {RAW: {"schema": {"type": "string", "format": "binary"}}},
}


_ANSWERS: dict[int | str, Any] = {200: {"model": list[list[float]], **_RAW_DOCS, "headers": OPENAPI}, **TEI_ERRORS}


@router.post("/embed", openapi_extra=_DOCS, responses=_ANSWERS)
async def embed_texts(request: Request) -> Response:
    """Embed texts with the first `layers` layers, as vectors of length `dim`.

    The answer is always a list of vectors, also for a single text; with `Accept: application/octet-stream`
    it is the numbers' bytes, little-endian, row after row.
    """
    embedder: Embedder = request.app.state.embedder
    body = await read(request, EmbedRequest)
    inputs, method = listed(body.inputs)
    embedder.limits.check_texts(len(inputs), "inputs")
    ask, served = ask_of(request.scope, body), embedder.served()
    kind = ask.output_dtype or "float"
    check_output(served, kind, ask, "output_dtype", normalize=body.normalize)
    texts = Texts(inputs, method, body.encode(embedder.limits), body.normalize)
    embedded = await embedder.embed(request, texts, ask)
    rows = as_type(served, embedded, kind, "output_dtype")
    if preferred(header_values(request.scope, b"accept"), (JSON, RAW)) == RAW:
        return raw_response(little_endian(rows), headers(served, embedded, kind))
    told = await rows_for_json(rows, body, embedder.writers)
    return json_response(told, partial(headers, served, embedded, kind))


# TEI answers here too, and Hugging Face's InferenceClient posts to the bare address.
router.add_api_route("/", embed_texts, methods=["POST"], openapi_extra={**_DOCS, SAME_AS: "/embed"}, responses=_ANSWERS)
