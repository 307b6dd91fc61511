"""The objective: every exit's vector says what the frozen teacher's vector says, at every length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, log_softmax, normalize

from strata.model_store.training.recipe import Recipe

_NEVER = -1e4  # a logit whose probability is zero, without the NaN that -inf makes of a KL


@dataclass
class Memory:
    """What is kept of earlier steps: the teacher's running mean [dim], and of the last ``capacity`` texts the
    teacher's vectors (frozen, so they never go stale) and the full-depth exit's, which stand for a search index.
    """

    mean: Tensor
    teacher: Tensor  # [up to capacity, dim], unit length, oldest first
    deepest: Tensor  # likewise, of the same texts; neither cut nor normalised
    capacity: int
    seen: int = 0

    @classmethod
    def empty(cls, dim: int, capacity: int, device: torch.device) -> Memory:
        """A memory of nothing yet."""
        nothing = torch.zeros(0, dim, device=device)
        return cls(torch.zeros(dim, device=device), nothing, nothing, capacity)

    def add(self, teacher: Tensor, deepest: Tensor) -> None:
        """Take in a step's vectors [rows, dim], the teacher's of unit length."""
        self.seen += len(teacher)
        share = max(len(teacher) / self.seen, 0.01)  # a plain mean at first, then an exponential one
        self.mean = self.mean + share * (teacher.mean(0) - self.mean)
        drop = max(0, len(self.teacher) + len(teacher) - self.capacity)
        self.teacher = torch.cat([self.teacher, teacher])[drop:]
        self.deepest = torch.cat([self.deepest, deepest.detach()])[drop:]


def objective(
    vectors: Tensor, teacher: Tensor, memory: Memory, dims: Sequence[int], recipe: Recipe
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one step and its parts, each averaged over exits with the last exit weighted by the recipe.

    ``vectors`` [exits, rows, full] as the exits give them, full depth last, ``teacher`` [rows, full] of unit length,
    ``dims`` the cuts, full length among them. Parts: cosine to the teacher's vector, the same after the teacher's mean
    is taken out (LEAP, arXiv 2605.01058, aligns depths by cosine; centring keeps it from being satisfied by the mean
    alone), and, a mean over all cuts, KL of the softmax over similarities to other texts against the teacher's (2DMSE,
    arXiv 2402.14776; listwise distillation, so that a query ranks its passage as the teacher does): ``own``, among
    an exit's own vectors, as where queries and documents share a depth, and ``search``, against the full-depth exit's
    vectors of this step and earlier ones, cut alike, as where a shallow query meets a deep index. At full length that
    index is the teacher's.
    """
    unit = normalize(vectors, dim=-1)
    rows = len(teacher)
    near, near_entropy = _shares(teacher @ teacher.T, recipe.temperature)
    known = torch.cat([teacher, memory.teacher])
    far, far_entropy = _shares(teacher @ known.T, recipe.temperature)
    deepest = torch.cat([vectors[-1].detach(), memory.deepest])
    own, search = [], []
    for dim in dims:
        cut = normalize(vectors[..., :dim], dim=-1)
        index = known if dim == teacher.shape[1] else normalize(deepest[:, :dim], dim=-1)
        own.append(_cross_entropy(cut, cut, near, recipe.temperature) - near_entropy)
        search.append(_cross_entropy(cut, index, far, recipe.temperature) - far_entropy)
    centred = cosine_similarity(unit - memory.mean, teacher - memory.mean, dim=-1)
    parts = {
        "cosine": recipe.cosine * (1 - (unit * teacher).sum(-1)).mean(1),
        "centred": recipe.centred_cosine * (1 - centred).mean(1),
        "own": recipe.neighbours * torch.stack(own).mean(0),
        "search": recipe.neighbours * torch.stack(search).mean(0),
    }
    weights = torch.ones(len(vectors), device=vectors.device)
    weights[-1] = recipe.last_exit
    weights /= weights.sum()
    assert rows == vectors.shape[1]
    weighted = {name: part @ weights for name, part in parts.items()}
    return torch.stack(list(weighted.values())).sum(), {name: part.detach() for name, part in weighted.items()}


def _shares(similarity: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The softmax over others of similarities [rows, texts], the first of the texts being the rows; mean entropy."""
    logs = log_softmax((similarity / temperature).fill_diagonal_(_NEVER), dim=-1)
    shares = logs.exp()
    return shares, -(shares * logs).sum(-1).mean()


def _cross_entropy(vectors: Tensor, texts: Tensor, shares: Tensor, temperature: float) -> Tensor:
    """Mean cross entropy [exits] of ``shares`` [rows, texts] with the softmax over vectors' similarities to texts.

    ``vectors`` [exits, rows, dim], ``texts`` [texts, dim] or [exits, texts, dim]. The expected logit is the similarity
    to the expected text, so the large table of logits is passed over for its log-sum-exp alone.
    """
    rows = torch.arange(len(shares), device=shares.device)
    logits = vectors @ (texts / temperature).transpose(-2, -1)
    logits[:, rows, rows] = _NEVER
    expected = (vectors * (shares @ (texts / temperature))).sum(-1)
    return (logits.logsumexp(-1) - expected).mean(-1)
