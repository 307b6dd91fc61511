"""Dense layers of a CPU: weights laid out once as oneDNN wants them, activation and residual done inside the product.

torch's own `F.linear` lays a weight out anew at every call. These are the operators that torch.compile calls; their
names are private, which is why torch is pinned.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import Any, Protocol

import torch

# An activation's name in a manifest -> oneDNN's name and algorithm.
POST_OPS = {"gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "relu": ("relu", "")}
NOTHING = ("none", "")

_mkldnn: Any = torch.ops.mkldnn
_FEWEST, _STEP, _FINE_STEP, _FINE = 16, 16, 8, 64
# Of the time in bfloat16; what is nearer than that might be chosen anew at every start, and vectors differ a little.
_CLEARLY = 0.8
_MEASURED, _TURNS = 64, 8  # lines, and turns of both dtypes, of which the quickest counts


def lines_of(count: int) -> int:
    """How many lines ``count`` are computed as: oneDNN keeps memory for every number of lines that it has seen.

    From 16 on multiples of 8 up to 64, where most single texts are, and of 16 up to 256, then 8 numbers to a doubling.
    """
    return max(_FEWEST, _rounded(count, max(_FINE_STEP if count <= _FINE else _STEP, _power(count, 4))))


def bins_of(count: int) -> int:
    """The same for products that run side by side: 4 numbers to every doubling."""
    return _rounded(count, _power(count, 3))


def _power(count: int, bits: int) -> int:
    """A multiple of which has so many significant bits, if it is about ``count``."""
    return 1 << max(0, (count - 1).bit_length() - bits)


def _rounded(count: int, step: int) -> int:
    return count + -count % step


def can_pack(dtype: torch.dtype) -> bool:
    """Whether this torch, on this CPU, has oneDNN's layers for a dtype."""
    if not torch._C._has_mkldnn or not hasattr(_mkldnn, "_reorder_linear_weight"):
        return False
    return dtype != torch.bfloat16 or bool(_mkldnn._is_mkldnn_bf16_supported())


def quicker_dtype(inputs: int, outputs: int) -> torch.dtype:
    """bfloat16, unless this CPU has no such products, or 64 lines of these sizes are clearly quicker in float32."""
    if not can_pack(torch.bfloat16):
        return torch.float32
    kinds = (torch.float32, torch.bfloat16)
    layers = {kind: PackedDense(torch.ones(outputs, inputs, dtype=kind), None) for kind in kinds}
    lines = {kind: torch.ones(_MEASURED, inputs, dtype=kind) for kind in kinds}
    took = dict.fromkeys(kinds, math.inf)
    for _ in range(_TURNS):
        for kind in kinds:
            began = perf_counter()
            layers[kind](lines[kind])
            took[kind] = min(took[kind], perf_counter() - began)
    return torch.float32 if took[torch.float32] < _CLEARLY * took[torch.bfloat16] else torch.bfloat16


def packed_product(weight: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """``x @ weight.T`` for any number of rows, by a weight [out, in] laid out once."""
    dense = PackedDense(weight, None)

    def product(x: torch.Tensor) -> torch.Tensor:
        lines = weight.new_empty((lines_of(len(x)), x.shape[1]))  # those after the last row mean nothing
        lines[: len(x)] = x
        return dense(lines)[: len(x)]

    return product


class Dense(Protocol):
    """``x @ weight.T + bias``: [lines, in] -> [lines, out]."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The product, through the layer's activation where it has one."""

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product plus ``other`` [lines, out]."""

    def times(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product times ``other`` [lines, out]."""


class PackedDense:
    """In float32 or bfloat16. weight [out, in], bias [out] or None, both of the dtype it is to run in."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, activation: str | None = None) -> None:
        self._weight = _mkldnn._reorder_linear_weight(weight)
        self._bias = bias
        self._post, self._algorithm = POST_OPS[activation] if activation else NOTHING
        # By its overload: for torch to find it takes as long as a small product does.
        self._linear = _mkldnn._linear_pointwise.default
        self._binary = _mkldnn._linear_pointwise.binary

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[lines, in] -> [lines, out]: ``x @ weight.T + bias``, through the activation where there is one."""
        made: torch.Tensor = self._linear(x, self._weight, self._bias, self._post, [], self._algorithm)
        return made

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product plus ``other`` [lines, out]."""
        made: torch.Tensor = self._binary(x, other, self._weight, self._bias, "add")
        return made

    def times(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product times ``other`` [lines, out]."""
        made: torch.Tensor = self._binary(x, other, self._weight, self._bias, "mul")
        return made
