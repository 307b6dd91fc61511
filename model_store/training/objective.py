"""The objective: every exit's vector says what the frozen teacher's vector says, at every length."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, log_softmax, normalize

from strata.model_store.training.recipe import Recipe

_NEVER = -1e4  # a logit whose probability is zero, without the NaN that -inf makes of a KL


@dataclass
class TeacherMemory:
    """What is kept of earlier steps' teacher vectors: their running mean [dim] and the last ``bank`` of them.

    The teacher is frozen, so kept vectors never go stale: thousands of comparisons for the price of a product.
    """

    mean: Tensor
    bank: Tensor  # [up to capacity, dim], oldest first
    capacity: int
    seen: int = 0

    @classmethod
    def empty(cls, dim: int, capacity: int, device: torch.device) -> TeacherMemory:
        """A memory of nothing yet."""
        return cls(torch.zeros(dim, device=device), torch.zeros(0, dim, device=device), capacity)

    def add(self, vectors: Tensor) -> None:
        """Take in unit vectors [rows, dim]."""
        self.seen += len(vectors)
        share = max(len(vectors) / self.seen, 0.01)  # a plain mean at first, then an exponential one
        self.mean = self.mean + share * (vectors.mean(0) - self.mean)
        self.bank = torch.cat([self.bank, vectors])[max(0, len(self.bank) + len(vectors) - self.capacity) :]


def objective(
    vectors: Tensor, teacher: Tensor, memory: TeacherMemory, dim: int, recipe: Recipe, whole: bool = True
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one step and its parts, each averaged over exits with the last exit weighted by the recipe.

    ``vectors`` [exits, rows, full] as the exits give them, ``teacher`` [rows, full] of unit length, ``dim`` the cut
    trained in this step; ``whole``: the last of the exits is full depth. Parts: cosine to the teacher's vector, the
    same after the teacher's mean is taken out (LEAP, arXiv 2605.01058, aligns depths by cosine; centring keeps it from
    being satisfied by the mean alone), and KL of the softmax over similarities to other texts against the teacher's
    (2DMSE, arXiv 2402.14776): among an exit's own vectors at full length and cut, against the teacher's vectors with
    those of earlier steps, and, in a whole step, cut against the last exit's cut vectors, which is what a shallow query
    meets in a deep index.
    """
    unit = normalize(vectors, dim=-1)
    cut = normalize(vectors[..., :dim], dim=-1)
    others = torch.cat([teacher, memory.bank])
    mine = torch.eye(len(teacher), len(others), dtype=torch.bool, device=teacher.device)

    def log_shares(similarity: Tensor) -> Tensor:
        logits = similarity / recipe.temperature
        return log_softmax(logits.masked_fill(mine[:, : logits.shape[-1]], _NEVER), dim=-1)

    near = log_shares(teacher @ teacher.T)
    far = log_shares(teacher @ others.T)
    parts = {
        "cosine": recipe.cosine * (1 - (unit * teacher).sum(-1)).mean(1),
        "centred": recipe.centred_cosine
        * (1 - cosine_similarity(unit - memory.mean, teacher - memory.mean, dim=-1)).mean(1),
        "own": recipe.neighbours * _divergence(near, log_shares(unit @ unit.transpose(1, 2))),
        "own_cut": recipe.neighbours * _divergence(near, log_shares(cut @ cut.transpose(1, 2))),
        "teacher": recipe.neighbours * _divergence(far, log_shares(unit @ others.T)),
    }
    weights = torch.ones(len(vectors), device=vectors.device)
    if whole:
        parts["last_cut"] = recipe.neighbours * _divergence(near, log_shares(cut @ cut[-1].detach().T))
        weights[-1] = recipe.last_exit
    weights /= weights.sum()
    weighted = {name: part @ weights for name, part in parts.items()}
    return torch.stack(list(weighted.values())).sum(), {name: part.detach() for name, part in weighted.items()}


def _divergence(target: Tensor, found: Tensor) -> Tensor:
    """KL(target || found) per exit [exits], of log shares [rows, n] and [exits, rows, n]."""
    return (target.exp() * (target - found)).sum(-1).mean(-1)
