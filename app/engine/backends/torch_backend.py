"""The torch backend: CPU in fp32 or bf16, and CUDA."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from strata.app.engine.attention import attention_bias, is_local, rotary_table
from strata.app.engine.packing import Index, Pack
from strata.app.engine.weights import (
    Array,
    block_parts,
    embedding_parts,
    final_norm,
    head_parts,
    relative_bias,
    word_table,
)
from strata.model_store.bundle.bundle import Bundle

_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}

# oneDNN, which has the CPU's bf16 products, keeps code and scratch memory for each of the last 1,024 shapes: with any
# number of rows a worker grew to 1.1 GB within a minute; with multiples of this it stays at 0.46, as fast.
_ROWS = 16

THREADS_SURVIVE_FORK = True  # its pool is made when first used, in the worker


@dataclass(slots=True)
class _State:
    hidden: torch.Tensor  # [places, hidden], and rows that mean nothing up to a multiple of the backend's step
    pack: Pack
    bias: torch.Tensor | None  # added to the scores in global attention
    local_bias: torch.Tensor | None
    angles: dict[bool, tuple[torch.Tensor, torch.Tensor]]  # cos, sin per place, by local


class TorchBackend:
    """Plain torch over packed tokens; weights are held once, in ``dtype``, on ``device``."""

    def __init__(self, bundle: Bundle, *, dtype: torch.dtype, device: str) -> None:
        self.a = bundle.manifest.architecture
        self._dtype = dtype
        self._device = torch.device(device)
        on_cpu = self._device.type == "cpu"
        # On a CPU a pack should fit the second-level cache: 256 x 1536 floats is 1.5 MB. A GPU wants bulk.
        self.pack_tokens = 256 if on_cpu else 16384
        self.bin_width = 64 if on_cpu else 128
        self._step = _ROWS if on_cpu and dtype == torch.bfloat16 else 1
        self._activation = _ACTIVATIONS[self.a.activation]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the table is a read-only map, and only ever read
            self._word = torch.from_numpy(np.asarray(word_table(bundle))).to(self._device)
        self._embedding = {k: self._own(v, torch.float32) for k, v in embedding_parts(bundle).items()}
        self._blocks = [
            {k: self._own(v, dtype) for k, v in block_parts(bundle, i).items()} for i in range(self.a.layers)
        ]
        norm = final_norm(bundle)
        self._final_norm = None if norm is None else self._own(norm, dtype)
        self._heads = {
            layers: {k: self._own(v, dtype if k == "weight" else torch.float32) for k, v in parts.items()}
            for layers, parts in head_parts(bundle).items()
        }
        self._by_distance = relative_bias(bundle)
        self._angles: dict[bool, tuple[torch.Tensor, torch.Tensor]] = {}
        if self.a.rotary is not None:
            for local in (False, True):
                cos, sin = rotary_table(self.a.rotary, self.a.head_size, bundle.manifest.max_tokens, local=local)
                self._angles[local] = self._own(cos, torch.float32), self._own(sin, torch.float32)

    def _own(self, array: Array, dtype: torch.dtype) -> torch.Tensor:
        # A private copy: the source is a read-only map of the bundle.
        return torch.tensor(array, dtype=dtype, device=self._device)

    @torch.inference_mode()
    def embed(self, pack: Pack, ids: npt.NDArray[np.int32]) -> _State:
        """Word (and learned position) embeddings through the embedding norm."""
        positions = torch.from_numpy(pack.positions().astype(np.int64)).to(self._device)
        hidden = F.embedding(torch.from_numpy(ids.astype(np.int64)).to(self._device), self._word).float()
        if "position" in self._embedding:
            hidden += self._embedding["position"][positions]
        parts = self._embedding
        hidden = F.layer_norm(hidden, hidden.shape[1:], parts["norm.weight"], parts["norm.bias"], self.a.norm_eps)
        return self._state(hidden.to(self._dtype), pack)

    def _state(self, hidden: torch.Tensor, pack: Pack) -> _State:
        rotary = self.a.rotary
        angles = {}
        if rotary is not None:
            positions = torch.from_numpy(pack.positions().astype(np.int64)).to(self._device)
            shape = (pack.bins, 1, pack.width, self.a.head_size // 2)
            for local, (cos, sin) in self._angles.items():
                angles[local] = cos[positions].view(shape), sin[positions].view(shape)
        return _State(
            self._stepped(hidden),
            pack,
            self._bias(attention_bias(pack, by_distance=self._by_distance)),
            self._bias(attention_bias(pack, window=rotary.local_window)) if rotary else None,
            angles,
        )

    def _stepped(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows of zeros added, up to a multiple of the step."""
        more = -len(rows) % self._step
        return F.pad(rows, (0, 0, 0, more)) if more else rows

    def _bias(self, bias: Array | None) -> torch.Tensor | None:
        return None if bias is None else torch.from_numpy(bias).to(self._device, self._dtype)

    @torch.inference_mode()
    def block(self, index: int, state: _State) -> _State:
        """One transformer block over every place of the pack."""
        step = self._pre_norm_block if self.a.pre_norm else self._post_norm_block
        state.hidden = step(self._blocks[index], index, state)
        return state

    def _post_norm_block(self, w: dict[str, torch.Tensor], index: int, state: _State) -> torch.Tensor:
        x, eps = state.hidden, self.a.norm_eps
        mixed = self._attention(F.linear(x, w["qkv.weight"], w["qkv.bias"]), index, state)
        mixed = F.linear(mixed, w["out.weight"], w["out.bias"]).add_(x)
        x = F.layer_norm(mixed, x.shape[1:], w["norm1.weight"], w["norm1.bias"], eps)
        inner = self._activation(F.linear(x, w["up.weight"], w["up.bias"]))
        inner = F.linear(inner, w["down.weight"], w["down.bias"]).add_(x)
        return F.layer_norm(inner, x.shape[1:], w["norm2.weight"], w["norm2.bias"], eps)

    def _pre_norm_block(self, w: dict[str, torch.Tensor], index: int, state: _State) -> torch.Tensor:
        x, eps = state.hidden, self.a.norm_eps
        normed = F.layer_norm(x, x.shape[1:], w["norm1.weight"], None, eps) if "norm1.weight" in w else x
        mixed = self._attention(F.linear(normed, w["qkv.weight"]), index, state)
        x = F.linear(mixed, w["out.weight"]).add_(x)
        inner, gate = F.linear(F.layer_norm(x, x.shape[1:], w["norm2.weight"], None, eps), w["up.weight"]).chunk(
            2, dim=-1
        )
        return F.linear(self._activation(inner) * gate, w["down.weight"]).add_(x)

    def _attention(self, qkv: torch.Tensor, index: int, state: _State) -> torch.Tensor:
        """Self-attention inside each bin. qkv: [rows, 3 * hidden] -> [rows, hidden], of which places mean anything."""
        pack, a = state.pack, self.a
        heads = qkv[: pack.places].view(pack.bins, pack.width, 3, a.attention_heads, a.head_size)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        local = is_local(a.rotary, index)
        if state.angles:
            cos, sin = state.angles[local]
            q, k = _rotate(q, cos, sin), _rotate(k, cos, sin)
        bias = state.local_bias if local else state.bias
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self._stepped(mixed.transpose(1, 2).reshape(pack.places, a.hidden_size))

    @torch.inference_mode()
    def pool(self, state: _State, mix: Array, layers: int, *, final_norm: bool) -> Array:
        """As the protocol says, in float32, on the host."""
        hidden = state.hidden[: state.pack.places]
        if final_norm:
            hidden = F.layer_norm(hidden, hidden.shape[1:], self._final_norm, None, self.a.norm_eps)
        hidden, weights = hidden.float(), torch.from_numpy(mix).to(self._device)
        head = self._heads.get(layers)
        if head and "queries" in head:
            scores = head["queries"] @ hidden.T
            weights = scores.masked_fill(weights[:, None] == 0, -torch.inf).softmax(-1)  # [rows, queries, places]
        vectors = (weights @ hidden).flatten(1)
        if head:
            vectors = F.linear(vectors.to(self._dtype), head["weight"]).float() + head["bias"]
        return vectors.cpu().numpy()

    @torch.inference_mode()
    def keep(self, state: _State, pack: Pack, source: Index) -> _State:
        """The rows that stay, in a pack of their own."""
        return self._state(state.hidden[torch.from_numpy(source).to(self._device)], pack)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions, half-split layout: x [bins, heads, width, head], cos and sin [bins, 1, width, head / 2]."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)


def build(bundle: Bundle, *, dtype: str, device: str, threads: int) -> TorchBackend:
    """The backend for a dtype by name ("float32", "bfloat16")."""
    set_threads(threads)
    return TorchBackend(bundle, dtype=getattr(torch, dtype), device=device)


def set_threads(threads: int) -> None:
    """Threads that one operation may use, in this process."""
    torch.set_num_threads(threads)
