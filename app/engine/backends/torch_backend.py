"""The torch backend over flat tokens: what the blocks of a CPU and of a GPU have in common."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from strata.app.engine.backends.torch_blocks import PlainBlocks
from strata.app.engine.backends.torch_cpu import CpuBlocks
from strata.app.engine.backends.torch_dense import can_pack, packed_product
from strata.app.engine.backends.torch_pooling import Exits, MakeProduct
from strata.app.engine.encoder import Backend
from strata.app.engine.exits import finish
from strata.app.engine.flat import FlatBatch, Index, Layout
from strata.app.engine.weights import Array, embedding_parts, word_table
from strata.model_store.bundle.bundle import Bundle

THREADS_SURVIVE_FORK = True  # its pool is made when first used, in the worker


class Blocks(Protocol):
    """The encoder's blocks on one kind of device, with an attention of their own."""

    def place(self, layout: Layout) -> Any:
        """What ``block`` needs to know of the rows that are in; computed once for all blocks that run on them."""

    def lines(self, tokens: int) -> int:
        """Lines of the hidden states of so many tokens; those after the last token mean nothing."""

    def sizes(self, most: int) -> list[int]:
        """Numbers of lines up to ``most`` whose first product sets something up that later ones use."""

    def block(self, index: int, hidden: torch.Tensor, place: Any) -> torch.Tensor:
        """Block ``index`` (0-based) over the tokens of all rows: [lines, hidden] -> [lines, hidden]."""

    def padding(self, place: Any) -> int:
        """Token places that a block computes over and that hold no token."""


_PROBE = 1 << 24  # floats that a GPU must be able to give


@dataclass(slots=True)
class _State:
    hidden: torch.Tensor  # [lines, hidden], a line per token and a few that mean nothing
    layout: Layout
    place: Any  # the blocks' own
    flat: FlatBatch
    pooled: list[torch.Tensor]  # vectors of the rows that left, [rows, full_dim] at each exit


class TorchBackend(Backend):
    """Plain torch; weights are held once, in ``dtype``."""

    by_length = True

    def __init__(
        self,
        bundle: Bundle,
        blocks: Blocks,
        *,
        dtype: torch.dtype,
        device: torch.device,
        product: MakeProduct | None = None,
    ) -> None:
        """``product`` makes the product with a head's weight."""
        self.a = bundle.manifest.architecture
        self._blocks = blocks
        self._dtype = dtype
        self._device = device
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the table is a read-only map, and only ever read
            self._word = torch.from_numpy(np.asarray(word_table(bundle))).to(device)
        self._embedding = {
            k: torch.tensor(v, dtype=torch.float32, device=device) for k, v in embedding_parts(bundle).items()
        }
        self._exits = Exits(bundle, dtype=dtype, device=device, product=product)

    @torch.inference_mode()
    def embed(self, flat: FlatBatch) -> _State:
        """Word (and learned position) embeddings through the embedding norm."""
        parts, tokens = self._embedding, flat.layout.tokens
        told = np.zeros((2, self._blocks.lines(tokens)), np.int32)  # lines after the last token are of any token
        told[0, :tokens], told[1, :tokens] = flat.ids, flat.layout.positions
        ids, positions = torch.from_numpy(told).to(self._device).unbind()
        word = torch.embedding(self._word, ids)
        position = parts.get("position")
        hidden = word.float() if position is None else torch.embedding(position, positions).add_(word)
        hidden = torch.layer_norm(hidden, (hidden.shape[1],), parts["norm.weight"], parts["norm.bias"], self.a.norm_eps)
        return self._state(hidden.to(self._dtype), flat.layout, flat, [])

    def _state(self, hidden: torch.Tensor, layout: Layout, flat: FlatBatch, pooled: list[torch.Tensor]) -> _State:
        lines = self._blocks.lines(layout.tokens)
        if lines > len(hidden):
            hidden = F.pad(hidden, (0, 0, 0, lines - len(hidden)))
        return _State(hidden[:lines], layout, self._blocks.place(layout), flat, pooled)

    @torch.inference_mode()
    def blocks(self, first: int, last: int, state: _State) -> _State:
        for index in range(first, last):
            state.hidden = self._blocks.block(index, state.hidden, state.place)
        return state

    @torch.inference_mode()
    def leave(self, state: _State, begin: int, layers: int) -> _State:
        state.pooled.append(self._pool(state, begin, layers))
        if begin == 0:
            return state
        return self._state(state.hidden, state.layout.first(begin), state.flat, state.pooled)

    def _pool(self, state: _State, begin: int, layers: int) -> torch.Tensor:
        starts = state.layout.starts[begin:]
        lines = state.hidden[int(starts[0]) : int(starts[-1])]
        return self._exits.pool(lines, starts - starts[0], layers)

    def answer(self, state: _State) -> Array:
        flat = state.flat
        pooled = state.pooled[::-1]  # the last to leave are the first rows
        vectors: Array = (pooled[0] if len(pooled) == 1 else torch.cat(pooled)).cpu().numpy()
        finish(vectors, flat.dims, flat.normalize)
        return vectors if len(vectors) == 1 else vectors[np.argsort(flat.order)]

    @torch.inference_mode()
    def look(self, state: _State, begin: int, layers: int) -> Array:
        vectors: Array = self._pool(state, begin, layers).cpu().numpy()
        return vectors

    @torch.inference_mode()
    def take(self, state: _State, rows: Index) -> _State:
        layout, tokens = state.layout.take(rows)
        hidden = state.hidden[torch.from_numpy(tokens).to(self._device)]
        return self._state(hidden, layout, state.flat, state.pooled)

    def healthy(self) -> bool:
        return self._device.type != "cuda" or cuda_works(self._device)

    def sizes(self, most: int) -> list[int]:
        return self._blocks.sizes(most)

    def padding(self, state: _State) -> int:
        return self._blocks.padding(state.place)


def cuda_works(device: torch.device) -> bool:
    """Whether a GPU can still give some memory and compute; an error of its own it repeats at every later call."""
    try:
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        return bool((torch.ones(_PROBE, device=device) > 0).all())
    except RuntimeError:
        return False


def build(bundle: Bundle, *, dtype: str, device: str, threads: int) -> Backend:
    """The backend for a dtype by name ("float32", "bfloat16", "float16") on "cpu", "cuda" or "cuda:N"."""
    set_threads(threads)
    int8, where = dtype == "int8", torch.device(device)
    kind = torch.float32 if int8 else getattr(torch, dtype)
    if where.type == "cuda" and not int8:
        from strata.app.engine.backends.cuda.build import build_cuda

        return build_cuda(bundle, dtype=kind, device=where)
    packed = where.type == "cpu" and can_pack(kind)
    if int8 and not (packed and bundle.manifest.int8_scales):
        raise ValueError(f"int8 on torch runs on a CPU with oneDNN, by scales that {bundle.path} must have")
    if packed:
        blocks = CpuBlocks(bundle, dtype=kind, int8=int8)
        return TorchBackend(bundle, blocks, dtype=kind, device=where, product=packed_product)
    return TorchBackend(bundle, PlainBlocks(bundle, dtype=kind, device=where), dtype=kind, device=where)


def set_threads(threads: int) -> None:
    """Threads that one operation may use, in this process."""
    torch.set_num_threads(threads)
