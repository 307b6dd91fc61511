"""Exits in torch: rows pooled by segment of the flat tokens, then through the exit's head."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from strata.app.engine.exits import exit_form
from strata.app.engine.weights import final_norm, head_parts
from strata.model_store.bundle.bundle import Bundle


class Exits:
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

    def pool(self, hidden: torch.Tensor, starts: torch.Tensor, layers: int) -> torch.Tensor:
        """Vectors at the exit after ``layers`` blocks, float32: [tokens, hidden], [rows + 1] -> [rows, full_dim]."""
        form = exit_form(self._manifest, layers)
        if form.pooling == "cls":
            hidden = hidden[starts[:-1]]
        if form.final_norm:
            eps = self._manifest.architecture.norm_eps
            hidden = F.layer_norm(hidden, hidden.shape[1:], self._final_norm, None, eps)
        hidden, head = hidden.float(), self._heads.get(layers)
        if form.pooling == "queries" and head:
            vectors = attended(hidden, starts, head["queries"])
        elif form.pooling == "mean":
            vectors = segment_mean(hidden, starts)
        else:
            vectors = hidden
        if head:
            vectors = F.linear(vectors.to(self._dtype), head["weight"]).float() + head["bias"]
        return vectors


def segment_mean(hidden: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Mean of each row's tokens. [tokens, hidden], [rows + 1] -> [rows, hidden]."""
    tokens = torch.arange(len(hidden), dtype=starts.dtype, device=hidden.device)
    return F.embedding_bag(tokens, hidden, starts, mode="mean", include_last_offset=True)


def attended(hidden: torch.Tensor, starts: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Each query's mean of a row's tokens, weighted by the softmax of their products with it, joined.

    [tokens, hidden], [rows + 1], [queries, hidden] -> [rows, queries * hidden].
    """
    tokens = torch.arange(len(hidden), dtype=starts.dtype, device=hidden.device)
    owner = torch.bucketize(tokens, starts[1:], right=True)
    scores = hidden @ queries.T  # [tokens, queries]
    best = scores.new_full((len(starts) - 1, len(queries)), -torch.inf)
    best.scatter_reduce_(0, owner[:, None].expand_as(scores), scores, "amax")
    shares = (scores - best[owner]).exp()
    sums = torch.zeros_like(best).index_add_(0, owner, shares)
    shares = shares / sums[owner]
    means = [
        F.embedding_bag(tokens, hidden, starts, mode="sum", per_sample_weights=share, include_last_offset=True)
        for share in shares.T.contiguous()
    ]
    return torch.stack(means, dim=1).flatten(1)
