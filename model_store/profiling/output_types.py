"""Types of output: the ranges of int8 from unlabelled text, and what each type costs in quality."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from strata.model_store.bundle.output_types import PACKED, SCALED, Int8Ranges, OutputType
from strata.model_store.bundle.quantized import quantized
from strata.model_store.encoding.reference import Vectors, unit

# Telling a vector: (vectors [texts, full], exit, dim) -> vectors of length 1 as they are compared, [texts, dim].
Told = Callable[[Vectors, int, int], Vectors]


def calibrated(vectors: Mapping[int, Vectors], dims: Sequence[int], texts: str) -> Int8Ranges:
    """The largest number of any text's unit vector, by exit and dim. ``vectors``: exit -> [texts, full]."""
    ranges = {
        exit: {dim: _rounded_up(float(np.abs(unit(rows, dim)).max())) for dim in dims} for exit, rows in vectors.items()
    }
    return Int8Ranges(texts=texts, count=len(next(iter(vectors.values()))), ranges=ranges)


def as_floats(vectors: Vectors, exit: int, dim: int) -> Vectors:
    """As they are, cut."""
    return unit(vectors, dim)


def told_as(kind: OutputType, table: Int8Ranges | None) -> Told:
    """How vectors of a type are compared: bytes by their cosine, bits by how many agree."""

    if kind == "float":
        return as_floats

    def told(vectors: Vectors, exit: int, dim: int) -> Vectors:
        units = unit(vectors, dim)
        if kind in PACKED:
            return np.where(units > 0, 1, -1).astype(np.float32) / np.float32(np.sqrt(dim))
        assert kind in SCALED
        assert table is not None
        ranges = np.full(len(units), table.ranges[exit][dim], np.float32)
        return unit(quantized(units, "int8", ranges).astype(np.float32), dim)

    return told


def _rounded_up(limit: float) -> float:
    return min(1.0, float(np.ceil(limit * 1e4) / 1e4))
