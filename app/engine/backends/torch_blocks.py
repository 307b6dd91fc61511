"""Blocks in plain torch, for any device: dense layers over flat tokens, attention in groups of like length."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from strata.app.engine.attention import is_local
from strata.app.engine.backends.torch_attention import Group, GroupedAttention
from strata.app.engine.backends.torch_dense import lines_of
from strata.app.engine.flat import Layout
from strata.app.engine.weights import block_parts
from strata.model_store.bundle.bundle import Bundle

ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


class PlainBlocks:
    """Weights by block, in ``dtype`` on ``device``."""

    def __init__(self, bundle: Bundle, *, dtype: torch.dtype, device: torch.device) -> None:
        self.a = bundle.manifest.architecture
        self._few = device.type == "cpu" and dtype == torch.bfloat16  # the products are oneDNN's
        # On a CPU what lies between two products should fit the second-level cache: 256 x 1536 floats is 1.5 MB.
        self._lines = 256 if device.type == "cpu" else 1 << 30
        self._activation = ACTIVATIONS[self.a.activation]
        self._attention = GroupedAttention(bundle, device=device)
        self._parts = [
            {part: torch.tensor(array, dtype=dtype, device=device) for part, array in block_parts(bundle, i).items()}
            for i in range(self.a.layers)
        ]

    def place(self, layout: Layout) -> list[Group]:
        """The rows in groups of like length."""
        return self._attention.groups(layout)

    def lines(self, tokens: int) -> int:
        """One of few numbers where that matters."""
        return lines_of(tokens) if self._few else tokens

    def sizes(self, most: int) -> list[int]:
        """None that is worth the time."""
        return []

    def padding(self, place: list[Group]) -> int:
        """Places of the groups that hold no token."""
        return sum(group.padding for group in place)

    def block(self, index: int, hidden: torch.Tensor, place: list[Group]) -> torch.Tensor:
        """One transformer block: [lines, hidden] -> [lines, hidden]."""
        w, pre = self._parts[index], self.a.pre_norm
        normed = self._norm(hidden, w["norm1.weight"]) if pre and "norm1.weight" in w else hidden
        qkv = F.linear(normed, w["qkv.weight"], w.get("qkv.bias"))
        mixed = self._attention(qkv, place, local=is_local(self.a.rotary, index))
        rest = self._pre_norm if pre else self._post_norm
        parts = zip(torch.split(hidden, self._lines), torch.split(mixed, self._lines), strict=True)
        return torch.cat([rest(w, x, part) for x, part in parts])

    def _post_norm(self, w: dict[str, torch.Tensor], x: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """What follows attention."""
        x = F.linear(mixed, w["out.weight"], w["out.bias"]).add_(x)
        x = self._norm(x, w["norm1.weight"], w["norm1.bias"])
        inner = self._activation(F.linear(x, w["up.weight"], w["up.bias"]))
        return self._norm(F.linear(inner, w["down.weight"], w["down.bias"]).add_(x), w["norm2.weight"], w["norm2.bias"])

    def _pre_norm(self, w: dict[str, torch.Tensor], x: torch.Tensor, mixed: torch.Tensor) -> torch.Tensor:
        """What follows attention."""
        x = F.linear(mixed, w["out.weight"]).add_(x)
        inner, gate = F.linear(self._norm(x, w["norm2.weight"]), w["up.weight"]).chunk(2, dim=-1)
        return F.linear(self._activation(inner) * gate, w["down.weight"]).add_(x)

    def _norm(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        return F.layer_norm(x, x.shape[1:], weight, bias, self.a.norm_eps)
