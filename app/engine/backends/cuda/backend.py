"""The CUDA backend: flat tokens in device memory from the one copy in to the one copy out."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from itertools import filterfalse

import numpy as np
import torch

from strata.app.engine.backends.cuda.blocks import CudaBlocks
from strata.app.engine.backends.cuda.buffers import ALIGNED, ROW_STEP, Buffers, Staging, allocate
from strata.app.engine.backends.cuda.exits import CudaExits
from strata.app.engine.backends.cuda.graphs import BUCKETS, ROW_BUCKETS, Recorder, bucket_of
from strata.app.engine.backends.cuda.ops import Embedding
from strata.app.engine.backends.torch_backend import cuda_works
from strata.app.engine.batch import Batch, Row
from strata.app.engine.encoder import Backend
from strata.app.engine.flat import FlatBatch, Index, Int32, Layout, flatten, layout_of
from strata.app.engine.weights import Array
from strata.model_store.bundle.bundle import Bundle

_STEP = 512  # places of a batch that is not recorded come in multiples of it: few shapes for cuBLAS to plan for
# Of the memory that every batch of the scheduler's fits: nothing is allocated for one, and all of it is recorded.
_ROWS, _PLACES = ROW_BUCKETS[-1], BUCKETS[-1]


@dataclass(slots=True)
class _State:
    buffers: Buffers
    layout: Layout  # the rows still in
    batch_rows: int


class CudaBackend(Backend):
    """Hidden states stay in place; rows that leave are places that are no longer computed.

    On a device that is no GPU, as under Triton's interpreter, nothing is recorded and the rest is the same.
    """

    by_length = False

    def __init__(self, bundle: Bundle, *, dtype: torch.dtype, device: torch.device) -> None:
        m = bundle.manifest
        self._new = partial(
            allocate, hidden=m.architecture.hidden_size, full_dim=m.full_dim, dtype=dtype, device=device
        )
        self._embedding = Embedding(bundle, dtype=dtype, device=device)
        self._blocks = CudaBlocks(bundle, dtype=dtype, device=device)
        self._exits = CudaExits(bundle, dtype=dtype, device=device)
        self._staging = Staging(device, _ROWS * m.full_dim)
        self._common = self._new(_ROWS, _PLACES)
        self._recorder = Recorder(device)
        self._manifest = m
        self._device = device

    @torch.inference_mode()
    def embed(self, flat: FlatBatch) -> _State:
        layout = flat.layout
        if layout.rows <= _ROWS and layout.tokens <= _PLACES:
            buffers = self._common
        else:
            buffers = self._new(layout.rows, layout.tokens + -layout.tokens % _STEP)
        self._staging.send(flat, buffers)
        state = _State(buffers, layout, layout.rows)
        places = self._places(state)
        self._run(("embed", places), self._recorded(state), partial(self._embedding, buffers, places))
        return state

    @torch.inference_mode()
    def blocks(self, first: int, last: int, state: _State) -> _State:
        places, recorded = self._places(state), self._recorded(state)
        for index in range(first, last):
            self._run(("block", index, places), recorded, partial(self._blocks, index, state.buffers, places))
        return state

    def _recorded(self, state: _State) -> bool:
        return state.buffers is self._common

    def _places(self, state: _State) -> int:
        """Token places that are computed."""
        tokens = state.layout.tokens
        if self._recorded(state):
            return bucket_of(tokens, BUCKETS)
        return min(tokens + -tokens % _STEP, state.buffers.places)

    def _run(self, what: Hashable, recorded: bool, work: Callable[[], None]) -> None:
        if recorded:
            self._recorder(what, work)
        else:
            work()

    @torch.inference_mode()
    def leave(self, state: _State, begin: int, layers: int) -> _State:
        buffers, rows, places = state.buffers, state.layout.rows, self._places(state)
        recorded = self._recorded(state)
        if recorded and self._exits.reads_places(layers):
            first, rows = 0, min(_ROWS, places)
        elif recorded:
            first, rows, places = 0, bucket_of(rows, ROW_BUCKETS), _PLACES
        else:
            first = begin - begin % ALIGNED
            rows -= first
            rows += -rows % ROW_STEP
            first = min(first, buffers.rows - rows)  # rows that are none, or have left, have another depth
        work = partial(self._exits.leave, layers, buffers, first, rows, places)
        self._run(("leave", layers, rows, places), recorded, work)
        if begin:
            state.layout = state.layout.first(begin)
        return state

    def answer(self, state: _State) -> Array:
        return self._staging.receive(state.buffers.answers[: state.batch_rows])

    @torch.inference_mode()
    def look(self, state: _State, begin: int, layers: int) -> Array:
        starts = state.layout.starts[begin:]
        hidden = state.buffers.hidden[starts[0] : starts[-1]]
        return self._staging.receive(
            self._exits.look(layers, hidden, torch.from_numpy(starts - starts[0]).to(hidden.device))
        )

    @torch.inference_mode()
    def take(self, state: _State, rows: Index) -> _State:
        """The state of these rows alone. The device keeps nothing of the others: `look` has read them."""
        buffers, device = state.buffers, self._device
        layout, tokens = state.layout.take(rows)
        left = _State(buffers, layout, layout.rows)
        bounds = np.arange(self._places(left), dtype=np.int32) + np.array([[0], [1]], np.int32)  # without a token
        bounds[0, : layout.tokens] = np.repeat(layout.starts[:-1], layout.lengths)
        bounds[1, : layout.tokens] = np.repeat(layout.starts[1:], layout.lengths)
        for to, told in zip((buffers.starts, buffers.ends), torch.from_numpy(bounds), strict=True):
            to[: len(told)].copy_(told)
        buffers.hidden[: layout.tokens] = buffers.hidden[torch.from_numpy(tokens).to(device)]
        return left

    def sizes(self, most: int) -> list[int]:
        return []

    def healthy(self) -> bool:
        return self._device.type != "cuda" or cuda_works(self._device)

    def padding(self, state: _State) -> int:
        return self._places(state) - state.layout.tokens

    @torch.inference_mode()
    def warm_up(self, bulk: FlatBatch) -> None:
        """Run a batch in memory of its own, which compiles every kernel, then record what every batch runs.

        In this order, since a recording must not compile: that allocates.
        """
        layout = bulk.layout
        state = _State(self._new(layout.rows, layout.tokens + -layout.tokens % _STEP), layout, layout.rows)
        self._staging.send(bulk, state.buffers)
        self._embedding(state.buffers, self._places(state))
        done = 0
        for layers, begin, _ in bulk.exits():
            state, done = self.leave(self.blocks(done, layers, state), begin, layers), layers
        self.answer(state)
        m, common = self._manifest, self._common
        one = flatten(Batch([Row(np.zeros(2, np.int32), m.architecture.layers, m.full_dim)]))
        self._staging.send(one, common)
        self._embedding(common, _PLACES)
        exits = sorted({*m.exits, *m.heads})
        for bucket in reversed(BUCKETS):
            self._blocks(0, common, bucket)  # in which cuBLAS plans the products
            state = self._filled(np.full(1, bucket, np.int32))
            self._run(("embed", bucket), True, partial(self._embedding, common, bucket))
            self.blocks(0, m.architecture.layers, state)
            for layers in filter(self._exits.reads_places, exits):
                self.leave(state, 0, layers)
        for rows in reversed(ROW_BUCKETS):
            self._exits.leave(exits[0], common, 0, rows, _PLACES)
            for layers in filterfalse(self._exits.reads_places, exits):
                self.leave(self._filled(np.ones(rows, np.int32)), 0, layers)
        self.answer(state)

    def _filled(self, lengths: Int32) -> _State:
        return _State(self._common, layout_of(lengths), 1)
