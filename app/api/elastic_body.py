"""The fields that every embedding request may carry in its body, whichever protocol it speaks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from strata.app.api.body import Ids, OneError
from strata.model_store.bundle.output_types import OutputType
from strata.model_store.bundle.prompts import InputType

MOST_EXITS = 256  # in one list
EXITS_TOLD = f'must be "shared" or a list of at most {MOST_EXITS} layers, as [6, 12] or "6,12"'

_Above0 = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Layers = Annotated[int | Literal["auto"], OneError('must be a whole number or "auto"')]
_Exits = Annotated[str | Ids, OneError(EXITS_TOLD)]


class ElasticBody(BaseModel):
    """The fields every embedding request may carry. Unknown fields are ignored, unless they are a name misspelt."""

    model_config = ConfigDict(strict=True, extra="allow")

    layers: Annotated[
        _Layers | None,
        Field(
            description='Layers to run: one of the exits in `/info`; or "auto": each text as many as it needs. '
            "Default: all.",
            examples=[6],
        ),
    ] = None
    dim: Annotated[
        int | None,
        Field(description="Length of the vectors: one of the dims in `/info`. Default: full.", examples=[256]),
    ] = None
    dimensions: Annotated[int | None, Field(description="The same as `dim`, as OpenAI calls it.")] = None
    output_dimension: Annotated[int | None, Field(description="The same as `dim`, as Cohere and Voyage call it.")] = (
        None
    )
    output_dtype: Annotated[
        OutputType | None,
        Field(
            description="Type of the numbers: float; int8 and uint8 (a byte a number; 127 stands for "
            "`X-Strata-Int8-Range`); binary and ubinary (a bit a number, eight to a byte). Default: float."
        ),
    ] = None
    budget_ms: Annotated[
        _Above0 | None,
        Field(description="Milliseconds from arrival to answer; as deep as that allows. Default: the tier's."),
    ] = None
    min_quality: Annotated[
        _Above0 | None,
        Field(
            description="Least share of the source model's score on the task that counts, by the tables in `/info`.",
            examples=[0.95],
        ),
    ] = None
    min_layers: Annotated[int | None, Field(description="Fewest layers to run.")] = None
    exits: Annotated[
        _Exits | None,
        Field(description='Only these layers, as [6, 12] or "6,12"; or "shared": those that may share an index.'),
    ] = None
    tier: Annotated[str | None, Field(description="A lower tier than the key's; see `/info`.")] = None
    space: Annotated[
        str | None, Field(description="The vector space the answer must be in, as `X-Strata-Space` said it.")
    ] = None
    input_type: Annotated[
        InputType | None,
        Field(description="Whether the texts are queries or documents of a search. Default: the tier's, else neither."),
    ] = None
    task: Annotated[
        str | None,
        Field(
            description="The task that `min_quality` and the answer's quality are of; one of those in `/info`. "
            "Default: the tier's, else the server's, else the lowest counts.",
            examples=["search"],
        ),
    ] = None
