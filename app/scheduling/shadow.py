"""Shadow runs: some shallow answers are run to full depth at idle, so that the quality being served is known.

After Apparate (SOSP'24), which checks its early exits against the whole model while it serves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random

import numpy as np

from strata.app.engine.batch import BatchResult, Row, TokenIds, Vector, Vectors
from strata.app.telemetry.metrics import Metrics

_MOST_WAITING = 64  # texts kept for an idle moment; the oldest give way


class ShadowRuns:
    """Answers waiting to be compared with full depth. ``share`` of the shallow texts is sampled."""

    def __init__(self, share: float, layers: int, metrics: Metrics) -> None:
        self._share = share
        self._layers = layers
        self._metrics = metrics
        self._random = Random(0)
        self._waiting: deque[tuple[TokenIds, Vector, int]] = deque(maxlen=_MOST_WAITING)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def offer(self, rows: Sequence[Row], vectors: Vectors, layers: Sequence[int]) -> None:
        """Texts were answered with these vectors at these depths."""
        if not self._share:
            return
        for row, vector, ran in zip(rows, vectors, layers, strict=True):
            if ran < self._layers and self._random.random() < self._share:
                self._waiting.append((row.tokens, vector, ran))

    def next(self) -> tuple[Row, Vector, int]:
        """The row to run to full depth, and the answer it is to be compared with."""
        tokens, vector, layers = self._waiting.popleft()
        return Row(tokens, self._layers, len(vector)), vector, layers

    def compare(self, result: BatchResult, vector: Vector, layers: int) -> None:
        """Report the cosine of an answer to full depth at the same length."""
        norm = float(np.linalg.norm(vector)) or 1.0
        self._metrics.shadowed(layers, float(result.vectors[0] @ vector) / norm)
