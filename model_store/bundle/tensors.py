"""Safetensors files as mapped numpy arrays: no copy until a tensor is used, and pages shared between processes."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

_DTYPES: dict[str, np.dtype[np.generic]] = {"F16": np.dtype("<f2"), "F32": np.dtype("<f4"), "BF16": np.dtype("<u2")}


class TensorFile:
    """One safetensors file, mapped read-only.

    Raises ValueError, naming the file, when the file is not sound safetensors or holds other than float tensors, and
    OSError when it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        path.open("rb").close()  # the library takes a file that may not be read for one that is not there
        try:
            with safe_open(path, framework="numpy"):  # the library checks the header, the offsets and the length
                pass
        except SafetensorError as error:
            raise ValueError(f"{path.name} is not a sound safetensors file: {error}") from error
        self.name = path.name
        with path.open("rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            self._header = json.loads(file.read(header_size))
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._header.pop("__metadata__", None)
        self._data = np.frombuffer(self._map, np.uint8, offset=8 + header_size)

    def let_go(self) -> None:
        """Give back the pages that were read; whatever is read again comes from the system's cache."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def names(self) -> list[str]:
        """Names of the tensors in the file."""
        return list(self._header)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor. Raises ValueError when the file lacks it."""
        if name not in self._header:
            raise ValueError(f"{self.name} lacks the tensor {name}")
        return tuple(self._header[name]["shape"])

    def stored(self, name: str) -> tuple[npt.NDArray[np.generic], str]:
        """The tensor as it lies in the file (a view; bf16 as uint16) and its safetensors dtype."""
        shape = self.shape(name)
        dtype = self._header[name]["dtype"]
        if dtype not in _DTYPES:
            raise ValueError(f"{self.name}: {name} is {dtype}; weights must be one of {', '.join(_DTYPES)}")
        begin, end = self._header[name]["data_offsets"]
        return self._data[begin:end].view(_DTYPES[dtype]).reshape(shape), dtype

    def float32(self, name: str) -> npt.NDArray[np.float32]:
        """The tensor widened to float32 (a copy, unless it is stored so)."""
        array, dtype = self.stored(name)
        if dtype == "BF16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(np.float32, copy=False)
