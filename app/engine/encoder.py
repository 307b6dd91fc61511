"""The elastic forward: blocks one by one over flat tokens, and after each the rows that are done leave."""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from strata.app.engine.batch import Batch, BatchResult, Vectors
from strata.app.engine.exits import finish, norms
from strata.app.engine.flat import FlatBatch, Index, flatten
from strata.app.engine.weights import Array
from strata.model_store.bundle.manifest import Manifest


class Backend(Protocol):
    """Computes over flat tokens. ``state`` is the backend's own: hidden states, the rows still in, vectors of others.

    Rows are meant by their place in the state, 0 the deepest. A state is used up by the call that gives a new one.
    """

    by_length: bool
    """Whether rows of one depth are to lie longest first."""

    def embed(self, flat: FlatBatch) -> Any:
        """The state before the first block, all rows in."""

    def blocks(self, first: int, last: int, state: Any) -> Any:
        """The state after the blocks ``first`` (0-based) to ``last - 1``; weights are read once for all rows."""

    def leave(self, state: Any, begin: int, layers: int) -> Any:
        """The rows from ``begin`` to the last leave after ``layers`` blocks, their depth: pooled, and a slice less."""

    def answer(self, state: Any) -> Array:
        """What rows that left have got: [rows of the batch, full_dim] float32, as the batch has its rows.

        Cut, so that elements past a row's dim mean nothing, and normalised where the row says so. A row that holds NaN
        or infinity begins with NaN. Waits for the device.
        """

    def look(self, state: Any, begin: int, layers: int) -> Array:
        """Vectors, uncut, of the rows from ``begin`` to the last at an exit: [rows - begin, full_dim] float32.

        They stay in. Waits for the device.
        """

    def take(self, state: Any, rows: Index) -> Any:
        """The state of these rows alone, which rise."""

    def padding(self, state: Any) -> int:
        """Token places that a block computes over and that hold no token."""

    def sizes(self, most: int) -> list[int]:
        """Numbers of tokens up to ``most`` whose first batch sets something up; others are computed as one of them."""

    def healthy(self) -> bool:
        """Whether the device still works, asked after a batch that raised."""


class Encoder:
    """Runs batches of rows of any depths on a backend."""

    def __init__(self, manifest: Manifest, backend: Backend) -> None:
        self._backend = backend
        self._tested = manifest.auto_exit.exits if manifest.auto_exit else manifest.exits

    def healthy(self) -> bool:
        """Whether the device still works, asked after a batch that raised."""
        return self._backend.healthy()

    def sizes(self, most: int) -> list[int]:
        """Numbers of tokens up to ``most`` whose first batch sets something up; others are computed as one of them."""
        return self._backend.sizes(most)

    def run(self, batch: Batch) -> BatchResult:
        """Embed a batch. Each row is pooled, cut and normalised at its own exit and costs nothing after it.

        A row with a threshold finds its exit on the way, by its own vectors alone. Raises FloatingPointError where a
        vector is not all numbers: other rows of the batch may have it from their neighbour, so none is answered.
        """
        began = time.perf_counter()
        facts = batch.facts
        flat = flatten(batch, by_length=self._backend.by_length)
        state = self._backend.embed(flat)
        padded = self._backend.padding(state)
        if np.isnan(batch.thresholds).all():
            vectors, layers = self._run(flat, state), facts[:, 1].tolist()
        else:
            vectors, layers = self._run_watching(flat, state, batch.thresholds)
        cut: Vectors
        dims, most = facts[:, 2], int(facts[0, 2])
        if (dims == most).all():
            cut = vectors[:, :most]
        else:
            cut = [vector[:dim] for vector, dim in zip(vectors, dims.tolist(), strict=True)]
        broken = np.isnan(vectors[:, 0])
        if broken.any():
            raise FloatingPointError(f"a vector at layer {np.array(layers)[broken].min()} holds NaN or infinity")
        return BatchResult(cut, layers, time.perf_counter() - began, padded)

    def _run(self, flat: FlatBatch, state: Any) -> Array:
        """Rows that leave where they said: nothing is read back before the end."""
        done = 0
        for layers, begin, _ in flat.exits():
            state = self._backend.leave(self._backend.blocks(done, layers, state), begin, layers)
            done = layers
        return self._backend.answer(state)

    def _run_watching(
        self, flat: FlatBatch, state: Any, thresholds: npt.NDArray[np.float64]
    ) -> tuple[Array, list[int]]:
        """The same where rows may leave by agreement: at every tested exit the host looks at their vectors."""
        backend, done = self._backend, 0
        lines = np.arange(flat.layout.rows)  # of the flat batch, that are still in
        thresholds = thresholds[flat.order]
        units: Array | None = None  # unit vectors at the exit tested last; not a number where there is none
        full, ran = None, np.zeros(len(lines), np.int64)
        while len(lines):
            depths = flat.depths[lines]
            stop = min(int(depths[-1]), *(e for e in self._tested if e > done))
            state, done = backend.blocks(done, stop, state), stop
            watched = ~np.isnan(thresholds[lines]) & (stop in self._tested)
            leaves = depths == stop
            if not (watched | leaves).any():
                continue
            begin = int(np.argmax(watched | leaves))
            vectors = backend.look(state, begin, stop)
            if units is None or full is None:
                full = np.zeros((len(ran), vectors.shape[1]), np.float32)
                units = np.full_like(full, np.nan)
            here = vectors / norms(vectors)
            agrees = np.einsum("rd,rd->r", units[lines[begin:]], here) >= thresholds[lines[begin:]]
            leaves[begin:] |= watched[begin:] & agrees
            units[lines[watched]] = here[watched[begin:]]
            gone = np.flatnonzero(leaves)
            full[lines[gone]] = vectors[gone - begin]
            ran[lines[gone]] = stop
            kept = np.flatnonzero(~leaves)
            if len(gone) and len(kept):
                state = backend.take(state, kept)
            lines = lines[kept]
        assert full is not None
        finish(full, flat.dims, flat.normalize)
        back = np.argsort(flat.order)
        return full[back], ran[back].tolist()
