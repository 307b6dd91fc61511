"""Exits in torch: rows pooled by segment of the flat tokens, then through the exit's head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from strata.app.engine.exits import ExitForm, exit_form
from strata.app.engine.weights import final_norm, head_parts
from strata.model_store.bundle.bundle import Bundle

Product = Callable[[torch.Tensor], torch.Tensor]  # [rows, width] -> [rows, out], both of the dtype it was made in
MakeProduct = Callable[[torch.Tensor], Product]  # of a weight [out, width]


@dataclass(slots=True, frozen=True)
class Head:
    """An exit's head, on the device."""

    product: Product
    bias: torch.Tensor  # [out] float32, added to what the product gives
    queries: torch.Tensor | None  # [n, hidden] float32: it pools by itself


class ExitParts:
    """What every exit of a bundle is made of, on a device."""

    def __init__(
        self, bundle: Bundle, *, dtype: torch.dtype, device: torch.device, product: MakeProduct | None = None
    ) -> None:
        """``product`` makes the product with a head's weight; torch's own unless it is given."""
        self._manifest = bundle.manifest
        norm = final_norm(bundle)
        self._final_norm = None if norm is None else torch.tensor(norm, dtype=dtype, device=device)
        make = product or _plain
        self._heads = {}
        for layers, parts in head_parts(bundle).items():
            told = {name: torch.tensor(parts[name], device=device) for name in parts if name != "weight"}
            weight = torch.tensor(parts["weight"], dtype=dtype, device=device)
            self._heads[layers] = Head(make(weight), told["bias"], told.get("queries"))

    def head(self, layers: int) -> Head | None:
        """The head of the exit after ``layers`` blocks, where it has one."""
        return self._heads.get(layers)

    def form(self, layers: int) -> ExitForm:
        """What comes before it."""
        return exit_form(self._manifest, layers)

    def normed(self, hidden: torch.Tensor, layers: int) -> torch.Tensor:
        """Hidden states through the final norm, where the exit has it."""
        if not self.form(layers).final_norm:
            return hidden
        return F.layer_norm(hidden, hidden.shape[1:], self._final_norm, None, self._manifest.architecture.norm_eps)


def _plain(weight: torch.Tensor) -> Product:
    return lambda vectors: F.linear(vectors, weight)


class Exits:
    """Every exit of a bundle."""

    def __init__(
        self, bundle: Bundle, *, dtype: torch.dtype, device: torch.device, product: MakeProduct | None = None
    ) -> None:
        self._parts = ExitParts(bundle, dtype=dtype, device=device, product=product)
        self._dtype = dtype

    def pool(self, hidden: torch.Tensor, starts: torch.Tensor, layers: int) -> torch.Tensor:
        """Vectors at the exit after ``layers`` blocks, float32: [tokens, hidden], [rows + 1] -> [rows, full_dim]."""
        pooling, head = self._parts.form(layers).pooling, self._parts.head(layers)
        if pooling == "cls":
            hidden = hidden[starts[:-1]]
        hidden = self._parts.normed(hidden, layers).float()
        if head and head.queries is not None:
            vectors = attended(hidden, starts, head.queries)
        elif pooling == "mean":
            vectors = segment_mean(hidden, starts)
        else:
            vectors = hidden
        return head.product(vectors.to(self._dtype)).float() + head.bias if head else vectors


def segment_mean(hidden: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    """Mean of each row's tokens. [tokens, hidden], [rows + 1] -> [rows, hidden]."""
    if len(starts) == 2:
        return hidden.mean(0, keepdim=True)
    tokens = torch.arange(len(hidden), dtype=starts.dtype, device=hidden.device)
    return F.embedding_bag(tokens, hidden, starts, mode="mean", include_last_offset=True)


def attended(hidden: torch.Tensor, starts: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Each query's mean of a row's tokens, weighted by the softmax of their products with it, joined.

    [tokens, hidden], [rows + 1], [queries, hidden] -> [rows, queries * hidden].
    """
    if len(starts) == 2:
        return ((hidden @ queries.T).softmax(0).T @ hidden).view(1, -1)
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
