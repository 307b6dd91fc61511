"""A GPU's exits: pooled by segment, through the head, cut and normalised, all where the vectors lie."""

from __future__ import annotations

import torch

from strata.app.engine.backends.cuda.buffers import Buffers
from strata.app.engine.backends.cuda.ops import finish, pool
from strata.app.engine.backends.torch_pooling import ExitParts
from strata.model_store.bundle.bundle import Bundle


class CudaExits:
    """Every exit of a bundle."""

    def __init__(self, bundle: Bundle, *, dtype: torch.dtype, device: torch.device) -> None:
        self._parts = ExitParts(bundle, dtype=dtype, device=device)
        self._dtype = dtype

    def reads_places(self, layers: int) -> bool:
        """Whether an exit's work depends on how many places hold tokens, not on its rows alone."""
        return self._parts.form(layers).final_norm

    def leave(self, layers: int, buffers: Buffers, first: int, rows: int, places: int) -> None:
        """Of ``rows`` rows from ``first`` on, which lie in ``places``, answer those whose depth is ``layers``."""
        lines = slice(first, first + rows)
        facts = buffers.facts[lines]
        vectors = self._vectors(layers, buffers.hidden[:places], buffers.row_starts[first:], facts)
        head = self._parts.head(layers)
        finish(vectors, head.bias if head else None, facts, buffers.order[lines], buffers.answers, layers)

    def look(self, layers: int, hidden: torch.Tensor, row_starts: torch.Tensor) -> torch.Tensor:
        """Vectors of all rows at an exit, uncut: [rows, full_dim] float32."""
        facts = torch.full((len(row_starts) - 1, 4), layers, dtype=torch.int32, device=hidden.device)
        vectors = self._vectors(layers, hidden, row_starts, facts).float()
        head = self._parts.head(layers)
        return vectors + head.bias if head else vectors

    def _vectors(
        self, layers: int, hidden: torch.Tensor, row_starts: torch.Tensor, facts: torch.Tensor
    ) -> torch.Tensor:
        """Through the head but for its bias: [rows, full_dim]."""
        head = self._parts.head(layers)
        pooled = pool(
            self._parts.normed(hidden, layers),
            row_starts,
            facts,
            layers,
            queries=head.queries if head else None,
            first=self._parts.form(layers).pooling == "cls",
            dtype=self._dtype if head else torch.float32,
        )
        return head.product(pooled) if head else pooled
