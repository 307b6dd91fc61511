"""Whether tensors hold numbers at all: one NaN in a layer makes every vector NaN from there on."""

from __future__ import annotations

import numpy as np

from strata.model_store.bundle.tensors import TensorFile

_CHUNK = 1 << 22  # elements looked at in one go
_BF16_EXPONENT = np.uint16(0x7F80)  # all ones: infinity or NaN


def check_finite(file: TensorFile, name: str) -> None:
    """Raise ValueError, naming file and tensor, where the tensor holds NaN or infinity."""
    array, dtype = file.stored(name)
    flat = array.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        finite = (part.view(np.uint16) & _BF16_EXPONENT) != _BF16_EXPONENT if dtype == "BF16" else np.isfinite(part)
        if not finite.all():
            raise ValueError(f"{file.name}: {name} holds NaN or infinity")
