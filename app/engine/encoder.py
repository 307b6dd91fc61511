"""The elastic forward: blocks one by one, and after each the rows that are done leave."""

from __future__ import annotations

import time
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from strata.app.engine.batch import Batch, BatchResult, Row, Vector
from strata.app.engine.packing import Index, Pack, make_packs
from strata.app.engine.weights import Array
from strata.model_store.bundle.manifest import Manifest


class Backend(Protocol):
    """Runs one block at a time over a pack; ``state`` is the backend's own hidden states and masks."""

    pack_tokens: int  # tokens of a pack that run fastest together
    bin_width: int  # places that short rows share in attention

    def embed(self, pack: Pack, ids: npt.NDArray[np.int32]) -> Any:
        """Hidden states before the first block. ids: [places]."""

    def block(self, index: int, state: Any) -> Any:
        """Hidden states after block ``index`` (0-based)."""

    def pool(self, state: Any, mix: Array, layers: int, *, final_norm: bool) -> Array:
        """Vectors at the exit after ``layers`` blocks: [rows, full_dim].

        mix [rows, places] times the hidden states (after the final norm where asked), through the exit's head where it
        has one. Where that has queries, what a row's places weigh is the softmax of their products with each query,
        and ``mix`` only says which places are the row's.
        """

    def keep(self, state: Any, pack: Pack, source: Index) -> Any:
        """The state of ``pack``, place i copied from place ``source[i]``."""


class Encoder:
    """Runs batches of rows of any depths on a backend."""

    def __init__(self, manifest: Manifest, backend: Backend) -> None:
        self._manifest = manifest
        self._backend = backend
        self._tested = frozenset(manifest.auto_exit.exits if manifest.auto_exit else manifest.exits)

    def run(self, batch: Batch) -> BatchResult:
        """Embed a batch. Each row is pooled, cut and normalised at its own exit and costs nothing after it.

        A row with a threshold finds its exit on the way, by its own vectors alone. Raises FloatingPointError where a
        vector is not all numbers: other rows of the batch may have it from their neighbour, so none is answered.
        """
        began = time.perf_counter()
        vectors: list[Vector] = [np.empty(0, np.float32)] * len(batch.rows)
        ran = [0] * len(batch.rows)
        padded = 0
        backend = self._backend
        for pack in make_packs(batch.rows, pack_tokens=backend.pack_tokens, bin_width=backend.bin_width):
            padded += pack.places - pack.tokens
            self._run_pack(pack, batch.rows, vectors, ran)
        return BatchResult(vectors, ran, time.perf_counter() - began, padded)

    def _run_pack(self, pack: Pack, rows: list[Row], vectors: list[Vector], ran: list[int]) -> None:
        state = self._backend.embed(pack, pack.spread([rows[i].tokens for i in pack.rows], 0))
        tested: dict[int, Vector] = {}  # row number -> its unit vector at the exit tested last
        layers = 0
        while True:
            state = self._backend.block(layers, state)
            layers += 1
            looked_at = [slot for slot, i in enumerate(pack.rows) if self._may_leave(rows[i], layers)]
            if not looked_at:
                continue
            gone = set()
            for slot, vector in zip(looked_at, self._pool(pack, looked_at, state, layers), strict=True):
                i = pack.rows[slot]
                if rows[i].layers == layers or _agrees(vector, i, tested, rows[i].threshold):
                    vectors[i] = cut(vector, rows[i])
                    ran[i] = layers
                    gone.add(slot)
            if len(gone) == len(pack.rows):
                return
            if gone:
                pack, source = pack.keep([slot for slot in range(len(pack.rows)) if slot not in gone])
                state = self._backend.keep(state, pack, source)

    def _may_leave(self, row: Row, layers: int) -> bool:
        return row.layers == layers or (row.threshold is not None and layers in self._tested)

    def _pool(self, pack: Pack, slots: list[int], state: Any, layers: int) -> Array:
        """Vectors of the rows at ``slots`` at an exit: [slots, full_dim]."""
        manifest = self._manifest
        first = manifest.pooling == "cls" and not (manifest.head_queries and layers in manifest.heads)
        mix = np.zeros((len(slots), pack.places), np.float32)
        for line, slot in enumerate(slots):
            start, length = pack.starts[slot], pack.lengths[slot]
            if first:
                mix[line, start] = 1.0
            else:
                mix[line, start : start + length] = 1.0 / length
        last = layers == manifest.architecture.layers
        norm = manifest.architecture.pre_norm and (last or manifest.exit_norm == "final")
        vectors = self._backend.pool(state, mix, layers, final_norm=norm)
        if not np.isfinite(vectors).all():
            raise FloatingPointError(f"a vector at layer {layers} holds NaN or infinity")
        return vectors


def _agrees(vector: Vector, i: int, tested: dict[int, Vector], threshold: float | None) -> bool:
    """Whether row ``i`` says much the same as at the exit tested before; keeps its vector for the next test."""
    before = tested.get(i)
    tested[i] = unit = _normalised(vector)
    return before is not None and threshold is not None and float(before @ unit) >= threshold


def cut(vector: Vector, row: Row) -> Vector:
    """The first ``row.dim`` elements, L2-normalised unless the row says not to."""
    head = np.ascontiguousarray(vector[: row.dim])
    return _normalised(head) if row.normalize else head


def _normalised(vector: Vector) -> Vector:
    norm = float(np.sqrt(np.dot(vector, vector)))
    return vector / np.float32(max(norm, 1e-12))
