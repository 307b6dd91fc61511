"""Exits in torch: rows pooled by segment of the flat tokens, then through the exit's head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from strata.app.engine.exits import ExitForm, exit_form
from strata.app.engine.flat import Int32
from strata.app.engine.weights import Array, final_norm, head_parts
from strata.model_store.bundle.bundle import Bundle

Product = Callable[[torch.Tensor], torch.Tensor]  # [rows, width] -> [rows, out] of the dtype it was made in
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
        a = bundle.manifest.architecture
        self._norm_eps = a.norm_eps
        self._forms = [exit_form(bundle.manifest, layers) for layers in range(a.layers + 1)]
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
        return self._forms[layers]

    def normed(self, hidden: torch.Tensor, layers: int) -> torch.Tensor:
        """Hidden states through the final norm, where the exit has it."""
        if not self.form(layers).final_norm:
            return hidden
        return F.layer_norm(hidden, hidden.shape[1:], self._final_norm, None, self._norm_eps)


def _plain(weight: torch.Tensor) -> Product:
    return lambda vectors: F.linear(vectors.to(weight.dtype), weight)


class Exits:
    """Every exit of a bundle."""

    def __init__(
        self, bundle: Bundle, *, dtype: torch.dtype, device: torch.device, product: MakeProduct | None = None
    ) -> None:
        self._parts = ExitParts(bundle, dtype=dtype, device=device, product=product)

    def pool(self, hidden: torch.Tensor, starts: Int32, layers: int) -> torch.Tensor:
        """Vectors at the exit after ``layers`` blocks, float32: [tokens, hidden], [rows + 1] -> [rows, full_dim]."""
        pooling, head = self._parts.form(layers).pooling, self._parts.head(layers)
        if pooling == "cls":
            hidden = hidden[torch.from_numpy(starts[:-1]).to(hidden.device)]
        hidden = self._parts.normed(hidden, layers).float()
        if head and head.queries is not None:
            vectors = attended(hidden, starts, head.queries)
        elif pooling == "mean":
            vectors = segment_mean(hidden, starts)
        else:
            vectors = hidden
        return head.bias + head.product(vectors) if head else vectors


def segment_mean(hidden: torch.Tensor, starts: Int32) -> torch.Tensor:
    """Mean of each row's tokens. [tokens, hidden], [rows + 1] -> [rows, hidden]."""
    if len(starts) == 2:
        return hidden.mean(0, keepdim=True)
    lengths = starts[1:] - starts[:-1]
    return _sums(hidden, starts, np.repeat(np.float32(1) / lengths.astype(np.float32), lengths)[None])


def attended(hidden: torch.Tensor, starts: Int32, queries: torch.Tensor) -> torch.Tensor:
    """Each query's mean of a row's tokens, weighted by the softmax of their products with it, joined.

    [tokens, hidden], [rows + 1], [queries, hidden] -> [rows, queries * hidden].
    """
    if len(starts) == 2:
        return ((queries @ hidden.T).softmax(1) @ hidden).view(1, -1)
    # numpy reduces by segments; torch needs twice the calls for it.
    begins, lengths = starts[:-1], starts[1:] - starts[:-1]
    shares: Array = (queries @ hidden.T).cpu().numpy()
    shares -= np.repeat(np.maximum.reduceat(shares, begins, axis=1), lengths, axis=1)
    np.exp(shares, out=shares)
    shares /= np.repeat(np.add.reduceat(shares, begins, axis=1), lengths, axis=1)
    return _sums(hidden, starts, shares)


def _sums(hidden: torch.Tensor, starts: Int32, shares: Array) -> torch.Tensor:
    """Sums of each row's tokens by some shares of them: [tokens, hidden], [n, tokens] -> [rows, n * hidden]."""
    where = hidden.device
    tokens = torch.from_numpy(np.arange(len(hidden), dtype=np.int32)).to(where)
    begins = torch.from_numpy(starts[:-1]).to(where)
    made = hidden.new_empty((len(begins), len(shares), hidden.shape[1]))
    for number, share in enumerate(torch.from_numpy(shares).to(where)):
        # `F.embedding_bag` without its checks. A mean of its own takes ten times as long as a sum.
        made[:, number] = torch.embedding_bag(hidden, tokens, begins, False, 0, False, share)[0]
    return made.flatten(1)
