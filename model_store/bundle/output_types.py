"""What a vector's numbers may be told as: float, or bytes and bits of it, as Cohere, Voyage and others define them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from pydantic import Field, PositiveInt

from strata.model_store.bundle.strict import Strict

OutputType = Literal["float", "int8", "uint8", "binary", "ubinary"]
OUTPUT_TYPES: tuple[OutputType, ...] = get_args(OutputType)
SCALED: tuple[OutputType, ...] = ("int8", "uint8")  # that need a range
PACKED: tuple[OutputType, ...] = ("binary", "ubinary")  # eight numbers to a byte
_MOST = 127

Range = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Arrays = npt.NDArray[Any]


class Int8Ranges(Strict):
    """The largest size of a number of a unit vector, by exit and dim: what becomes 127. Larger ones are clipped.

    One range for all numbers of a vector, and none shifted: products of two such vectors rank as those of their floats.
    """

    texts: str  # which texts it was calibrated on
    count: PositiveInt
    ranges: dict[Annotated[int, Field(ge=0)], dict[PositiveInt, Range]]  # ranges[exit][dim]


def quantized(vectors: npt.NDArray[np.float32], kind: OutputType, ranges: npt.NDArray[np.float32]) -> Arrays:
    """Unit vectors [texts, dim] as numbers of a kind; ``ranges`` [texts] are those of each row's exit.

    int8: 127 times the share of the range, rounded. uint8: the same plus 128. ubinary: the bit of each number says
    whether it is above 0, the first is the highest of its byte (dim a multiple of 8). binary: the same less 128.
    """
    if kind == "float":
        return vectors
    if kind in PACKED:
        bits = np.packbits(vectors > 0, axis=1)
        return bits if kind == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
    scaled = np.clip(np.rint(vectors * (_MOST / ranges[:, None])), -_MOST, _MOST)
    return scaled.astype(np.int8) if kind == "int8" else (scaled + 128).astype(np.uint8)
