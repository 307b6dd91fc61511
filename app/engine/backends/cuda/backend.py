"""The CUDA backend: flat tokens in device memory from the one copy in to the one copy out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from strata.app.engine.backends.cuda.blocks import CudaBlocks
from strata.app.engine.backends.cuda.buffers import Buffers, Staging, allocate
from strata.app.engine.backends.cuda.exits import CudaExits
from strata.app.engine.backends.cuda.graphs import BUCKETS, ROWS, Recorder, bucket_of
from strata.app.engine.backends.cuda.ops import Embedding
from strata.app.engine.backends.torch_backend import cuda_works
from strata.app.engine.batch import Batch, Row
from strata.app.engine.flat import FlatBatch, Index, Layout, flatten, layout_of
from strata.app.engine.weights import Array
from strata.model_store.bundle.bundle import Bundle

_STEP = 512  # places of a large batch come in multiples of it: few shapes for cuBLAS to plan for
_PLANNED = 32768  # places up to which every shape is run once at the start


@dataclass(slots=True)
class _State:
    buffers: Buffers
    layout: Layout  # the rows still in
    batch_rows: int
    recorded: bool  # its work runs from graphs


class CudaBackend:
    """Hidden states stay in place; rows that leave are places that are no longer computed.

    On a device that is no GPU, as under Triton's interpreter, nothing is recorded and the rest is the same.
    """

    def __init__(self, bundle: Bundle, *, dtype: torch.dtype, device: torch.device) -> None:
        m = bundle.manifest
        self._new = partial(
            allocate, hidden=m.architecture.hidden_size, full_dim=m.full_dim, dtype=dtype, device=device
        )
        self._embedding = Embedding(bundle, dtype=dtype, device=device)
        self._blocks = CudaBlocks(bundle, dtype=dtype, device=device)
        self._exits = CudaExits(bundle, dtype=dtype, device=device)
        self._staging = Staging(device)
        self._fixed = self._new(ROWS, BUCKETS[-1])  # what recordings read and write
        self._fixed.hidden.zero_()
        self._recorder = Recorder(device)
        self._manifest = m
        self._device = device

    @torch.inference_mode()
    def embed(self, flat: FlatBatch) -> _State:
        """As the protocol says."""
        layout = flat.layout
        bucket = bucket_of(layout.tokens, layout.rows)
        if bucket is None:
            places = layout.tokens + -layout.tokens % _STEP
            buffers = self._new(layout.rows, places)
            self._staging.send(flat, buffers)
            self._embedding(buffers, places)
        else:
            buffers = self._fixed
            self._staging.send(flat, buffers)
            self._recorder(("embed", bucket), partial(self._embedding, buffers, bucket))
        return _State(buffers, layout, layout.rows, bucket is not None)

    @torch.inference_mode()
    def blocks(self, first: int, last: int, state: _State) -> _State:
        """As the protocol says."""
        places = self._places(state)
        for index in range(first, last):
            work = partial(self._blocks, index, state.buffers, places)
            if state.recorded:
                self._recorder(("block", places, index), work)
            else:
                work()
        return state

    def _places(self, state: _State) -> int:
        """Token places that are computed."""
        tokens, rows = state.layout.tokens, state.layout.rows
        if state.recorded:
            bucket = bucket_of(tokens, rows)
            assert bucket is not None
            return bucket
        return min(tokens + -tokens % _STEP, state.buffers.places)

    @torch.inference_mode()
    def leave(self, state: _State, begin: int, layers: int) -> _State:
        """As the protocol says."""
        places = self._places(state)
        if state.recorded:
            work = partial(self._exits.leave, layers, state.buffers, places, min(ROWS, places))
            self._recorder(("leave", places, layers), work)
        else:
            self._exits.leave(layers, state.buffers, places, state.layout.rows)
        if begin:
            state.layout = state.layout.first(begin)
        return state

    def answer(self, state: _State) -> Array:
        """As the protocol says."""
        return self._staging.receive(state.buffers.answers[: state.batch_rows])

    @torch.inference_mode()
    def look(self, state: _State, begin: int, layers: int) -> Array:
        """As the protocol says."""
        starts = state.layout.starts[begin:]
        hidden = state.buffers.hidden[starts[0] : starts[-1]]
        return self._staging.receive(
            self._exits.look(layers, hidden, torch.from_numpy(starts - starts[0]).to(hidden.device))
        )

    @torch.inference_mode()
    def take(self, state: _State, rows: Index) -> _State:
        """As the protocol says; from here on in memory of its own."""
        layout, tokens = state.layout.take(rows)
        left = self._new(layout.rows, layout.tokens + -layout.tokens % _STEP)
        bounds = np.arange(left.places, dtype=np.int32) + np.array([[0], [1]], np.int32)  # of places without a token
        bounds[0, : layout.tokens] = np.repeat(layout.starts[:-1], layout.lengths)
        bounds[1, : layout.tokens] = np.repeat(layout.starts[1:], layout.lengths)
        left.starts.copy_(torch.from_numpy(bounds[0]))
        left.ends.copy_(torch.from_numpy(bounds[1]))
        left.hidden.zero_()
        left.hidden[: layout.tokens] = state.buffers.hidden[torch.from_numpy(tokens).to(left.hidden.device)]
        return _State(left, layout, layout.rows, recorded=False)

    def sizes(self, most: int) -> list[int]:
        """As the protocol says."""
        return []

    def healthy(self) -> bool:
        """As the protocol says."""
        return self._device.type != "cuda" or cuda_works(self._device)

    def padding(self, state: _State) -> int:
        """As the protocol says."""
        return self._places(state) - state.layout.tokens

    @torch.inference_mode()
    def warm_up(self, bulk: FlatBatch) -> None:
        """Run a large batch, which compiles every kernel, then record everything that small batches run."""
        places = bulk.layout.tokens + -bulk.layout.tokens % _STEP
        state = _State(self._new(bulk.layout.rows, places), bulk.layout, bulk.layout.rows, recorded=False)
        self._staging.send(bulk, state.buffers)
        self._embedding(state.buffers, places)
        done = 0
        for layers, begin, _ in bulk.exits():
            state, done = self.leave(self.blocks(done, layers, state), begin, layers), layers
        self.answer(state)
        large = self._new(1, _PLANNED)
        large.hidden.zero_()
        large.starts.copy_(torch.arange(_PLANNED))
        large.ends.copy_(torch.arange(1, _PLANNED + 1))
        for places in range(_PLANNED, BUCKETS[-1], -_STEP):
            self._blocks(0, large, places)
        m = self._manifest
        self._staging.send(flatten(Batch([Row(np.zeros(2, np.int32), m.architecture.layers, m.full_dim)])), self._fixed)
        for bucket in reversed(BUCKETS):
            state = _State(self._fixed, layout_of(np.full(1, bucket, np.int32)), 1, recorded=True)
            self._recorder(("embed", bucket), partial(self._embedding, self._fixed, bucket))
            self.blocks(0, m.architecture.layers, state)
            for layers in sorted({*m.exits, *m.heads}):
                self.leave(state, 0, layers)
        self.answer(state)
