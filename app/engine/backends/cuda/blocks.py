"""A GPU's blocks: cuBLAS products with the bias in them, and Triton for what lies between."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from strata.app.engine.backends.cuda.buffers import Buffers
from strata.app.engine.backends.cuda.ops import Attention, add_norm
from strata.app.engine.backends.torch_blocks import ACTIVATIONS
from strata.app.engine.weights import block_parts
from strata.model_store.bundle.bundle import Bundle


class CudaBlocks:
    """Weights by block, in ``dtype`` on ``device``; matrices lie input by output, as a product takes them."""

    def __init__(self, bundle: Bundle, *, dtype: torch.dtype, device: torch.device) -> None:
        self.a = bundle.manifest.architecture
        self._eps = self.a.norm_eps
        self.attention = Attention(bundle, dtype=dtype, device=device)
        self._activation = ACTIVATIONS[self.a.activation]
        # One kernel has GELU by its tanh formula alone. In 16 bits rounding hides the difference: 1e-6 of a cosine.
        self._in_one = self.a.activation != "gelu" or dtype != torch.float32
        self._parts = []
        for index in range(self.a.layers):
            parts = {k: torch.tensor(v, dtype=dtype, device=device) for k, v in block_parts(bundle, index).items()}
            self._parts.append({k: v.t() if v.dim() == 2 else v for k, v in parts.items()})

    def __call__(self, index: int, buffers: Buffers, places: int) -> None:
        """Block ``index`` (0-based) over the hidden states of the first ``places`` tokens, in place."""
        step = self._pre_norm if self.a.pre_norm else self._post_norm
        step(self._parts[index], index, buffers, buffers.hidden[:places])

    def _post_norm(self, w: dict[str, torch.Tensor], index: int, buffers: Buffers, x: torch.Tensor) -> None:
        mixed = self.attention(torch.addmm(w["qkv.bias"], x, w["qkv.weight"]), buffers, index)
        mixed = torch.addmm(w["out.bias"], mixed, w["out.weight"])
        middle = add_norm(mixed, x, w["norm1.weight"], w["norm1.bias"], self._eps)
        inner = self.up(w, middle)
        inner = torch.addmm(w["down.bias"], inner, w["down.weight"])
        add_norm(inner, middle, w["norm2.weight"], w["norm2.bias"], self._eps, out=x)

    def up(self, w: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        """[places, hidden] -> [places, intermediate]."""
        if self._in_one:
            gelu = self.a.activation != "relu"
            return torch._addmm_activation(w["up.bias"], x, w["up.weight"], use_gelu=gelu)
        return self._activation(torch.addmm(w["up.bias"], x, w["up.weight"]))

    def _pre_norm(self, w: dict[str, torch.Tensor], index: int, buffers: Buffers, x: torch.Tensor) -> None:
        normed = F.layer_norm(x, x.shape[1:], w["norm1.weight"], None, self._eps) if "norm1.weight" in w else x
        mixed = torch.mm(self.attention(torch.mm(normed, w["qkv.weight"]), buffers, index), w["out.weight"])
        middle = torch.empty_like(x)
        normed = add_norm(mixed, x, w["norm2.weight"], None, self._eps, total=middle)
        inner, gate = torch.mm(normed, w["up.weight"]).chunk(2, dim=-1)
        torch.addmm(middle, self._activation(inner) * gate, w["down.weight"], out=x)
