"""What a vector's numbers may be told as: float, or bytes and bits of it, as Cohere, Voyage and others define them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal, get_args

from pydantic import Field, PositiveInt

from strata.model_store.bundle.strict import Strict

OutputType = Literal["float", "int8", "uint8", "binary", "ubinary"]
OUTPUT_TYPES: tuple[OutputType, ...] = get_args(OutputType)
SCALED: tuple[OutputType, ...] = ("int8", "uint8")  # that need a range
PACKED: tuple[OutputType, ...] = ("binary", "ubinary")  # eight numbers to a byte
# The type that one of these is measured as: the two of a pair differ by an offset, and rank alike.
MEASURED_AS: dict[OutputType, OutputType] = {"uint8": "int8", "ubinary": "binary"}


def coarsest(kinds: Collection[OutputType]) -> OutputType:
    """The type that keeps least of what a vector says."""
    return max(kinds, key=OUTPUT_TYPES.index)


Range = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class Int8Ranges(Strict):
    """The largest size of a number of a unit vector, by exit and dim: what becomes 127. Larger ones are clipped.

    One range for all numbers of a vector, and none shifted: products of two such vectors rank as those of their floats.
    """

    texts: str  # which texts it was calibrated on
    count: PositiveInt
    ranges: dict[Annotated[int, Field(ge=0)], dict[PositiveInt, Range]]  # ranges[exit][dim]
