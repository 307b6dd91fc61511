"""Vectors as bytes and bits. Apart from the names of their kinds: who reads a manifest need not wait for numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from strata.model_store.bundle.output_types import PACKED, OutputType

Arrays = npt.NDArray[Any]

_MOST = 127


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
