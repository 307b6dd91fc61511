"""What int8 needs besides the weights: how each dense layer's input becomes bytes, measured once and kept in a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from strata.model_store.bundle.manifest import Architecture
from strata.model_store.bundle.tensors import TensorFile

Array = npt.NDArray[np.float32]
PARTS = ("qkv", "out", "up", "down")  # the dense layers of a block


class Scale(NamedTuple):
    """How numbers become bytes: ``byte = round(number / step) + zero``, cut to 0 to 255."""

    step: float
    zero: int


@dataclass(slots=True, frozen=True)
class InputScale:
    """Of one dense layer's input."""

    smooth: Array | None  # [in] what divides it first, and multiplies the weight
    scale: Scale


def has_smooth(a: Architecture, part: str) -> bool:
    """Whether a part's input can be divided by channel: not where the layer before gives bytes by itself."""
    return part != "down" or a.pre_norm


def scale_of(low: float, high: float) -> Scale:
    """The scale for numbers from ``low`` to ``high``, 0 always among them."""
    low, high = min(low, 0.0), max(high, 1e-6)
    step = (high - low) / 255
    return Scale(step, round(-low / step))


def tensor_names(index: int, part: str) -> tuple[str, str]:
    """Names in the file: of what divides, [in], and of the range after it, [2]."""
    return f"blocks.{index}.{part}.smooth", f"blocks.{index}.{part}.range"


def read_scales(file: TensorFile, a: Architecture, index: int) -> dict[str, InputScale]:
    """The scales of block ``index`` by part; a part that has none is not to run in int8."""
    found = {}
    held = set(file.names())
    for part in PARTS:
        smooth, reach = tensor_names(index, part)
        if reach not in held:
            continue
        low, high = file.float32(reach).tolist()
        found[part] = InputScale(file.float32(smooth) if has_smooth(a, part) else None, scale_of(low, high))
    return found
