"""The encoder as the objective sees it: one vector per exit, all from one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.functional import one_hot

from strata.model_store.bundle.manifest import ExitNorm
from strata.model_store.training.encoder import Encoder
from strata.model_store.training.packing import Packed

_QUERY_SPREAD = 0.02  # of the first queries' components
_NOWHERE = -1e30  # a score that no softmax gives a share to


class ExitHeads(nn.Module):
    """One head per exit but the last: attention pooling over the exit's hidden states, then an affine map.

    ``queries`` pooled vectors a head (0: the model's own pooled vector), joined to a width of ``queries * size``.
    Starts as the identity of the mean-pooled vector, but for queries that differ a little: alike they would stay alike.
    ``queries`` [heads, queries, size], ``weight`` [heads, size, width], ``bias`` [heads, size].
    """

    def __init__(self, heads: int, size: int, queries: int = 0) -> None:
        super().__init__()
        copies = max(queries, 1)
        self.size = size
        self.queries = nn.Parameter(_QUERY_SPREAD * torch.randn(heads, queries, size)) if queries else None
        self.weight = nn.Parameter((torch.eye(size) / copies).repeat(heads, 1, copies))
        self.bias = nn.Parameter(torch.zeros(heads, size))

    def forward(self, pooled: Tensor) -> Tensor:
        """[heads, rows, width] -> [heads, rows, size]."""
        # The weights on the left: so their gradient comes as they lie, and is not copied.
        return torch.baddbmm(self.bias[..., None], self.weight, pooled.transpose(1, 2)).transpose(1, 2)

    def attend(self, states: Tensor, packed: Packed) -> Tensor:
        """Hidden states [heads, bins, width, size] pooled by each query: [heads, rows, queries * size], float32."""
        assert self.queries is not None
        mine = one_hot(packed.slots + 1, packed.slot_count + 1)[..., 1:].bool().transpose(1, 2)  # [bins, slots, width]
        pool: Any = _AttentionPooling.apply
        pooled: Tensor = pool(states, self.queries, mine)
        rows = pooled.view(len(states), -1, self.queries.shape[1] * self.size)
        return rows.index_select(1, packed.places).float()

    def tensors(self, at: int) -> dict[str, Tensor]:
        """The tensors of one head by their part in heads.safetensors, each a view."""
        parts = {"queries": self.queries, "weight": self.weight, "bias": self.bias}
        return {part: tensor[at] for part, tensor in parts.items() if tensor is not None}


class _AttentionPooling(torch.autograd.Function):
    """Pooled states [heads, bins, slots * queries, size] of ``states`` [heads, bins, width, size], each weighed by the
    softmax of its product with ``queries`` [heads, queries, size] among the tokens ``mine`` [bins, slots, width].

    States are used twice, and are large: the way back sums both gradients in one product.
    """

    @staticmethod
    def forward(ctx: Any, states: Tensor, queries: Tensor, mine: Tensor) -> Tensor:
        heads, bins, width, size = states.shape
        asked = queries.to(states.dtype)[:, None].expand(-1, bins, -1, -1).flatten(0, 1)
        scores = torch.bmm(asked, states.flatten(0, 1).transpose(1, 2)).float().view(heads, bins, 1, -1, width)
        shares = torch.where(mine[:, :, None], scores, _NOWHERE).softmax(-1).flatten(2, 3)
        ctx.save_for_backward(states, queries, shares)
        pooled = torch.bmm(shares.to(states.dtype).flatten(0, 1), states.flatten(0, 1))
        return pooled.view(heads, bins, -1, size)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        states, queries, shares = ctx.saved_tensors
        heads, bins, width, size = states.shape
        flat, given = states.flatten(0, 1), gradient.flatten(0, 1)
        of_shares = torch.bmm(given, flat.transpose(1, 2)).float().view_as(shares)
        of_scores = torch._softmax_backward_data(of_shares, shares, -1, shares.dtype)
        of_scores = of_scores.view(heads * bins, -1, queries.shape[1], width).sum(1).to(states.dtype)
        asked = queries.to(states.dtype)[:, None].expand(-1, bins, -1, -1).flatten(0, 1)
        of_states = torch.bmm(shares.to(states.dtype).flatten(0, 1).transpose(1, 2), given)
        of_states.baddbmm_(of_scores.transpose(1, 2), asked)
        of_queries = torch.bmm(of_scores, flat).view(heads, bins, -1, size).sum(1).to(queries.dtype)
        return of_states.view_as(states), of_queries, None


class Student(nn.Module):
    """An encoder with an exit after each layer in ``exits`` (1-based, ascending, full depth last; 0, first, is the
    embedding layer alone, which only a head can make something of; default: all).

    Exits but the last have a head when ``heads`` is true; the last has none, so that the plain
    sentence-transformers model and the full-depth exit are the same function.
    Raises ValueError for models whose vectors this cannot describe.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        exits: Sequence[int] = (),
        exit_norm: ExitNorm = "none",
        heads: bool = True,
        head_queries: int = 0,
        arithmetic: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.encoder = Encoder(model, arithmetic, exit_norm)
        self.layers, self.hidden_size = self.encoder.layers, self.encoder.hidden_size
        self.exits = tuple(exits) or tuple(range(0 if heads else 1, self.layers + 1))
        if self.exits[-1] != self.layers:
            raise ValueError(f"exits must end with the last layer, {self.layers}, not {self.exits[-1]}")
        if self.exits[0] == 0 and not heads:
            raise ValueError("exit 0, the embedding layer alone, needs a head")
        headed = len(self.exits) - 1 if heads else 0
        self.heads = ExitHeads(headed, self.hidden_size, head_queries) if headed else None

    @property
    def model(self) -> SentenceTransformer:
        """The sentence-transformers model that holds the weights."""
        return self.encoder.model

    def forward(self, packed: Packed) -> Tensor:
        """Vectors [exits, rows, dim], rows as packed; neither cut nor normalised."""
        return self.vectors(self.pooled(packed))

    def pooled(self, packed: Packed) -> Tensor:
        """What the heads read, an exit after the other, and the last exit's vector: [rows, sum of widths], float32."""
        states = self.encoder.states(packed, self.exits)
        if self.heads is None or self.heads.queries is None:
            return torch.cat([self.encoder.own_pooling(state, packed) for state in states], dim=-1)
        early = torch.stack([state.to(self.encoder.arithmetic) for state in states[:-1]])
        read = self.heads.attend(early, packed).transpose(0, 1).flatten(1)
        return torch.cat([read, self.encoder.own_pooling(states[-1], packed)], dim=-1)

    def vectors(self, pooled: Tensor) -> Tensor:
        """Vectors [exits, rows, dim] of what ``pooled`` gave."""
        if self.heads is None:
            return pooled.view(len(pooled), -1, self.hidden_size).transpose(0, 1)
        return torch.cat([self.heads(self.heads_read(pooled)), pooled[None, :, -self.hidden_size :]])

    def heads_read(self, pooled: Tensor) -> Tensor:
        """What heads read [heads, rows, width] of what ``pooled`` gave."""
        return pooled[:, : -self.hidden_size].view(len(pooled), len(self.exits) - 1, -1).transpose(0, 1)
