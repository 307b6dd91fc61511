"""Writing safetensors from mapped arrays, tensor by tensor, so that no model is ever whole in memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from strata.model_store.bundle.watch import Watch, unwatched


class StoredTensor(NamedTuple):
    """A tensor as it lies in a file: bf16 as uint16 bits. ``dtype`` is safetensors' name of it."""

    name: str
    array: npt.NDArray[np.generic]
    dtype: str


def write_safetensors(path: Path, tensors: Sequence[StoredTensor], watch: Watch = unwatched) -> None:
    """Write ``tensors`` in the given order (format: 8-byte header length, JSON header, data)."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}  # transformers refuses files without it
    end = 0
    for name, array, dtype in tensors:
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors start aligned, as the library's own writer has them
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little"))
        file.write(text)
        for tensor in tensors:
            # Not by tofile, whose error says nothing of a full disk.
            file.write(np.ascontiguousarray(tensor.array).reshape(-1).view(np.uint8).data)
            watch(tensor.array.nbytes)
