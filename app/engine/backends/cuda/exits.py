"""A GPU's exits: pooled by segment, through the head, cut and normalised, all where the vectors lie."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from strata.app.engine.backends.cuda.buffers import Buffers
from strata.app.engine.backends.cuda.ops import finish, pool
from strata.app.engine.exits import exit_form
from strata.app.engine.weights import final_norm, head_parts
from strata.model_store.bundle.bundle import Bundle


class CudaExits:
    """Every exit of a bundle."""

    def __init__(self, bundle: Bundle, *, dtype: torch.dtype, device: torch.device) -> None:
        self._manifest = bundle.manifest
        self._dtype = dtype
        norm = final_norm(bundle)
        self._final_norm = None if norm is None else torch.tensor(norm, dtype=dtype, device=device)
        self._heads = {
            layers: {
                part: torch.tensor(array, dtype=dtype if part == "weight" else torch.float32, device=device)
                for part, array in parts.items()
            }
            for layers, parts in head_parts(bundle).items()
        }

    def leave(self, layers: int, buffers: Buffers, places: int, rows: int) -> None:
        """Of the first ``rows`` rows, answer those whose depth is ``layers``."""
        vectors = self._vectors(layers, buffers.hidden[:places], buffers.row_starts, buffers.depths[:rows])
        finish(vectors, self._heads[layers]["bias"] if layers in self._heads else None, buffers, layers)

    def look(self, layers: int, hidden: torch.Tensor, row_starts: torch.Tensor) -> torch.Tensor:
        """Vectors of all rows at an exit, uncut: [rows, full_dim] float32."""
        depths = torch.full((len(row_starts) - 1,), layers, dtype=torch.int32, device=hidden.device)
        vectors = self._vectors(layers, hidden, row_starts, depths).float()
        return vectors + self._heads[layers]["bias"] if layers in self._heads else vectors

    def _vectors(
        self, layers: int, hidden: torch.Tensor, row_starts: torch.Tensor, depths: torch.Tensor
    ) -> torch.Tensor:
        """Through the head but for its bias: [rows, full_dim]."""
        form, head = exit_form(self._manifest, layers), self._heads.get(layers)
        if form.final_norm:
            eps = self._manifest.architecture.norm_eps
            hidden = F.layer_norm(hidden, hidden.shape[1:], self._final_norm, None, eps)
        pooled = pool(
            hidden,
            row_starts,
            depths,
            layers,
            queries=head["queries"] if head and form.pooling == "queries" else None,
            first=form.pooling == "cls",
            dtype=self._dtype if head else torch.float32,
        )
        return F.linear(pooled, head["weight"]) if head else pooled
