"""The elastic forward: blocks one by one over flat tokens, and after each the rows that are done leave."""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np

from strata.app.engine.batch import Batch, BatchResult, Row, Vector
from strata.app.engine.flat import FlatBatch, Index, flatten
from strata.app.engine.weights import Array
from strata.model_store.bundle.manifest import Manifest


class Backend(Protocol):
    """Computes over flat tokens. ``state`` is the backend's own: hidden states and layout of the rows still in.

    Rows are meant by their place in the state, 0 the deepest. A state may be used up by the call it is given to.
    """

    def embed(self, flat: FlatBatch) -> Any:
        """The state before the first block, all rows in."""

    def blocks(self, first: int, last: int, state: Any) -> Any:
        """The state after the blocks ``first`` (0-based) to ``last - 1``; weights are read once for all rows."""

    def pool(self, state: Any, begin: int, layers: int) -> Any:
        """Vectors, uncut, of the rows from ``begin`` to the last at the exit after ``layers`` blocks.

        [rows - begin, full_dim], as the manifest says an exit's vector is made, in the backend's own memory.
        """

    def first(self, state: Any, rows: int) -> Any:
        """The state of the first ``rows`` rows: a slice."""

    def take(self, state: Any, rows: Index) -> Any:
        """The state of these rows, which rise: a gather."""

    def fetch(self, pooled: list[Any]) -> Array:
        """What ``pool`` gave, one after another, on the host: [rows, full_dim] float32. Waits for the device."""

    def padding(self, state: Any) -> int:
        """Token places that a block computes over and that hold no token."""


class Encoder:
    """Runs batches of rows of any depths on a backend."""

    def __init__(self, manifest: Manifest, backend: Backend) -> None:
        self._backend = backend
        self._tested = manifest.auto_exit.exits if manifest.auto_exit else manifest.exits

    def run(self, batch: Batch) -> BatchResult:
        """Embed a batch. Each row is pooled, cut and normalised at its own exit and costs nothing after it.

        A row with a threshold finds its exit on the way, by its own vectors alone. Raises FloatingPointError where a
        vector is not all numbers: other rows of the batch may have it from their neighbour, so none is answered.
        """
        began = time.perf_counter()
        flat = flatten(batch.rows)
        state = self._backend.embed(flat)
        padded = self._backend.padding(state)
        if any(row.threshold is not None for row in batch.rows):
            order, ran, full = self._run_watching(flat, state, batch.rows)
        else:
            order, ran, full = self._run(flat, state)
        return BatchResult(*_answers(batch.rows, order, ran, full), time.perf_counter() - began, padded)

    def _run(self, flat: FlatBatch, state: Any) -> tuple[Index, Index, Array]:
        """Rows that leave where they said: nothing is read back before the end.

        Returns row numbers in the batch, the layers run for each, and vectors [rows, full_dim].
        """
        backend, done = self._backend, 0
        pooled, leaving = [], []
        for layers, begin, end in flat.exits():
            state = backend.blocks(done, layers, state)
            pooled.append(backend.pool(state, begin, layers))
            leaving.append(np.arange(begin, end))
            done = layers
            if begin:
                state = backend.first(state, begin)
        lines = np.concatenate(leaving)
        return flat.order[lines], flat.depths[lines].astype(np.int64), backend.fetch(pooled)

    def _run_watching(self, flat: FlatBatch, state: Any, rows: list[Row]) -> tuple[Index, Index, Array]:
        """The same where rows may leave by agreement: at every tested exit the host looks at their vectors."""
        backend, done = self._backend, 0
        order, depths = flat.order, flat.depths
        thresholds = np.array([np.nan if (t := rows[i].threshold) is None else t for i in order])
        before = np.full((len(order), 0), np.nan, np.float32)  # unit vectors at the exit tested last
        parts: list[tuple[Index, Index, Array]] = []
        while len(order):
            stop = min(int(depths[-1]), min((e for e in self._tested if e > done), default=int(depths[-1])))
            state = backend.blocks(done, stop, state)
            done = stop
            watched = ~np.isnan(thresholds) & (stop in self._tested)
            leaves = depths == stop
            if not (watched | leaves).any():
                continue
            begin = int(np.argmax(watched | leaves))
            vectors = backend.fetch([backend.pool(state, begin, stop)])
            unit = np.full((len(order), vectors.shape[1]), np.nan, np.float32)
            unit[begin:] = vectors / _norms(vectors)
            unit[~watched] = before[~watched] if before.shape[1] else np.nan
            if before.shape[1]:
                # Not a number where there is no vector yet, and then it agrees with nothing.
                leaves |= watched & (np.einsum("rd,rd->r", before, unit) >= thresholds)
            gone = np.flatnonzero(leaves)
            parts.append((order[gone], np.full(len(gone), stop), vectors[gone - begin]))
            kept = np.flatnonzero(~leaves)
            if len(kept) and len(gone):
                prefix = kept[-1] + 1 == len(kept)
                state = backend.first(state, len(kept)) if prefix else backend.take(state, kept)
            order, depths, thresholds, before = order[kept], depths[kept], thresholds[kept], unit[kept]
        at, ran, full = zip(*parts, strict=True)
        return np.concatenate(at), np.concatenate(ran), np.concatenate(full)


def _answers(rows: list[Row], order: Index, ran: Index, full: Array) -> tuple[list[Vector], list[int]]:
    """Each row's vector, cut to its dim and L2-normalised unless it says not to; and its layers."""
    if not np.isfinite(full).all():
        layers = ran[~np.isfinite(full).all(axis=1)].min()
        raise FloatingPointError(f"a vector at layer {layers} holds NaN or infinity")
    vectors: list[Vector] = [np.empty(0, np.float32)] * len(rows)
    layers = [0] * len(rows)
    asked = [(rows[i].dim, rows[i].normalize) for i in order.tolist()]
    for dim, normalize in set(asked):
        alike = [line for line, ask in enumerate(asked) if ask == (dim, normalize)]
        head = full[alike, :dim]
        if normalize:
            head /= _norms(head)
        for line, vector in zip(alike, head, strict=True):
            vectors[order[line]], layers[order[line]] = vector, int(ran[line])
    return vectors, layers


def _norms(vectors: Array) -> Array:
    """L2 norms, [rows, 1], none of them 0."""
    norms: Array = np.sqrt(np.einsum("rd,rd->r", vectors, vectors))
    return np.maximum(norms, np.float32(1e-12))[:, None]
