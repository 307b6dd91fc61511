"""Dense layers in int8 by scales measured beforehand, so that no row's vector depends on another row."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from strata.app.engine.backends.torch_dense import NOTHING, POST_OPS, PackedDense
from strata.app.engine.cpu import byte_steps
from strata.model_store.bundle.int8 import Scale

_onednn: Any = torch.ops.onednn
# Nothing else in eager torch makes bytes of floats in one pass; torch is pinned.
warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)


class Int8Dense:
    """Weights in int8, a scale an output; what comes in as uint8 by one fixed scale.

    ``smooth`` [in] divides what comes in and multiplies the weight: outliers of few channels move into the weight
    (SmoothQuant, arXiv 2211.10438). With ``out`` the product leaves as uint8 of that scale, else as ``dtype``.
    """

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        scale: Scale,
        *,
        smooth: torch.Tensor | None = None,
        activation: str | None = None,
        out: Scale | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if smooth is not None:
            weight = weight * smooth
        self._shrink = None if smooth is None else 1 / smooth
        self._steps = weight.abs().amax(1).clamp_min(1e-12) / byte_steps()
        self._weight = _onednn.qlinear_prepack(torch.round(weight / self._steps[:, None]).to(torch.int8), None)
        self._zeros = torch.zeros(len(weight), dtype=torch.int64)
        self._bias = bias
        self._scale = scale
        self._out = (out.step, out.zero, torch.uint8) if out else (1.0, 0, dtype)
        self._post, self._algorithm = POST_OPS[activation] if activation else NOTHING
        self._linear, self._binary = _onednn.qlinear_pointwise.default, _onednn.qlinear_pointwise.binary

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[lines, in] float32, or uint8 already -> [lines, out], through the activation where there is one."""
        given = (self._bytes(x), self._scale.step, self._scale.zero, self._weight, self._steps, self._zeros)
        made: torch.Tensor = self._linear(*given, self._bias, *self._out, self._post, [], self._algorithm)
        return made

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product plus ``other`` [lines, out], both float32."""
        given = (self._bytes(x), self._scale.step, self._scale.zero, self._weight, self._steps, self._zeros)
        made: torch.Tensor = self._binary(
            *given, other, self._bias, 1.0, 0, torch.float32, 1.0, 0, "add", 1.0, "none", [], ""
        )
        return made

    def times(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product times ``other`` [lines, out]."""
        return self(x).mul_(other)

    def _bytes(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.uint8:
            return x
        even = x.float() if self._shrink is None else x * self._shrink
        # The bytes themselves: `int_repr` would copy them, more slowly than they were made.
        return torch.quantize_per_tensor(even, self._scale.step, self._scale.zero, torch.quint8).view(torch.uint8)


class WideDense:
    """A layer that int8 would harm, among layers in int8: in ``dtype``, and the residual in float32."""

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, activation: str | None, dtype: torch.dtype
    ) -> None:
        self._dense = PackedDense(weight.to(dtype), None if bias is None else bias.to(dtype), activation)
        self._dtype = dtype

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """[lines, in] of any dtype -> [lines, out] of its own, through the activation where there is one."""
        return self._dense(x.to(self._dtype))

    def plus(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product plus ``other`` [lines, out] float32."""
        return self(x) + other

    def times(self, x: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """The product times ``other`` [lines, out] float32."""
        return self(x) * other
