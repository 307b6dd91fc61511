"""Blocks on a CPU: packed dense layers over flat tokens, attention in bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from strata.app.engine.attention import is_local
from strata.app.engine.backends.torch_bins import Binned, BinnedAttention
from strata.app.engine.backends.torch_dense import Dense, PackedDense, lines_of, quicker_dtype
from strata.app.engine.backends.torch_int8 import Int8Dense, WideDense
from strata.app.engine.flat import Layout
from strata.app.engine.weights import Array, block_parts
from strata.model_store.bundle.bundle import Bundle
from strata.model_store.bundle.int8 import read_scales
from strata.model_store.bundle.manifest import Architecture


@dataclass(slots=True)
class _Parts:
    qkv: Dense
    out: Dense
    up: Dense
    down: Dense
    gate: Dense | None  # of a gated unit: multiplies what ``up`` gives
    norms: dict[str, torch.Tensor]


class CpuBlocks:
    """Weights by block, laid out for oneDNN, in ``dtype``: float32 or bfloat16.

    With ``int8`` dense layers are in int8, by the scales that the bundle must have, and all between them in float32,
    but for attention and layers that have no scales, which are in bfloat16 where its products are as quick.
    """

    def __init__(self, bundle: Bundle, *, dtype: torch.dtype, int8: bool = False) -> None:
        self.a = bundle.manifest.architecture
        self._int8 = int8
        self._scores = quicker_dtype(self.a.intermediate_size, self.a.hidden_size) if int8 else dtype
        # A last bit that differs becomes another byte in the next layer, and grows: in int8 all texts go one way.
        self._attention = BinnedAttention(bundle, dtype=self._scores, fused_alone=not int8)
        self._parts = [self._block(bundle, i, dtype) for i in range(self.a.layers)]

    def _block(self, bundle: Bundle, index: int, dtype: torch.dtype) -> _Parts:
        a = self.a
        parts = scaled_queries(block_parts(bundle, index), a)
        scales = read_scales(bundle.int8, a, index) if self._int8 and bundle.int8 else None
        smooth = {part: scale.smooth for part, scale in (scales or {}).items()}
        if (by_values := smooth.pop("out", None)) is not None:  # values come divided, by their weights
            parts = divided_values(parts, by_values, a)

        def dense(part: str, rows: slice = slice(None), activation: str | None = None) -> Dense:
            weight = torch.tensor(parts[f"{part}.weight"][rows], dtype=dtype)
            bias = torch.tensor(parts[f"{part}.bias"], dtype=dtype) if f"{part}.bias" in parts else None
            if scales is None:
                return PackedDense(weight, bias, activation)
            given, after = scales.get(part), None
            if given is None:
                return WideDense(weight, bias, activation, self._scores)
            if part == "up" and not a.pre_norm and "down" in scales:  # bytes straight out of the activation
                after = scales["down"].scale
            first = smooth.get(part)
            made = self._scores if part == "qkv" else dtype
            return Int8Dense(
                weight,
                bias,
                given.scale,
                smooth=None if first is None else torch.tensor(first),
                activation=activation,
                out=after,
                dtype=made,
            )

        gated = slice(a.intermediate_size) if a.pre_norm else slice(None)
        return _Parts(
            qkv=dense("qkv"),
            out=dense("out"),
            up=dense("up", gated, a.activation),
            gate=dense("up", slice(a.intermediate_size, None)) if a.pre_norm else None,
            down=dense("down"),
            norms={name: torch.tensor(array) for name, array in parts.items() if name[:4] == "norm"},
        )

    def place(self, layout: Layout) -> Binned:
        """The rows in bins."""
        return self._attention.place(layout, self.lines(layout.tokens))

    def lines(self, tokens: int) -> int:
        """One of few numbers."""
        return lines_of(tokens)

    def sizes(self, most: int) -> list[int]:
        """Every number of lines."""
        return sorted({lines_of(tokens) for tokens in range(1, most + 1)})

    def padding(self, place: Binned) -> int:
        """Places of the bins that hold no token."""
        return place.padding

    def block(self, index: int, hidden: torch.Tensor, place: Binned) -> torch.Tensor:
        """One transformer block: [lines, hidden] -> [lines, hidden]."""
        w, local = self._parts[index], is_local(self.a.rotary, index)
        if w.gate is None:
            mixed = self._attention(w.qkv(hidden), place, local=local)
            x = self._norm(w, 1, w.out.plus(mixed, hidden))
            return self._norm(w, 2, w.down.plus(w.up(x), x))
        mixed = self._attention(w.qkv(self._norm(w, 1, hidden)), place, local=local)
        x = w.out.plus(mixed, hidden)
        normed = self._norm(w, 2, x)
        return w.down.plus(w.gate.times(normed, w.up(normed)), x)

    def _norm(self, w: _Parts, number: int, x: torch.Tensor) -> torch.Tensor:
        weight = w.norms.get(f"norm{number}.weight")
        if weight is None:  # the embedding norm stands in for it
            return x
        return torch.layer_norm(x, (x.shape[1],), weight, w.norms.get(f"norm{number}.bias"), self.a.norm_eps)


def scaled_queries(parts: dict[str, Array], a: Architecture) -> dict[str, Array]:
    """A block's parts, queries divided by the root of the head's size by their weights, so that nothing else need."""
    scale = np.ones(3 * a.hidden_size, np.float32)
    scale[: a.hidden_size] = a.head_size**-0.5
    scaled = {"qkv.weight": parts["qkv.weight"] * scale[:, None]}
    if "qkv.bias" in parts:
        scaled["qkv.bias"] = parts["qkv.bias"] * scale
    return parts | scaled


def divided_values(parts: dict[str, Array], by: Array, a: Architecture) -> dict[str, Array]:
    """A block's parts where what attention gives is divided by ``by`` [hidden], and the next layer multiplies it."""
    scale = np.ones(3 * a.hidden_size, np.float32)
    scale[2 * a.hidden_size :] = 1 / by
    divided = {"qkv.weight": parts["qkv.weight"] * scale[:, None], "out.weight": parts["out.weight"] * by}
    if "qkv.bias" in parts:
        divided["qkv.bias"] = parts["qkv.bias"] * scale
    return parts | divided
