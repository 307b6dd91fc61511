"""Heads fitted in closed form before training, so that the layers start under a head that already reads them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from strata.model_store.training.student import ExitHeads

_STRENGTH = 0.02  # of the pull towards the identity, as a share of the mean square of a pooled component


@torch.no_grad()
def fit_heads(heads: ExitHeads, pooled: Tensor, teacher: Tensor) -> None:
    """Set each head to the affine map from its exit's pooled vectors to the teacher's, by ridge regression.

    ``pooled`` [heads, rows, width], ``teacher`` [rows, dim] of unit length. A head of several queries, which at first
    are nearly alike, gets the map of their mean, a share each. The target is scaled to the length of the
    exit's own pooled vectors and the penalty pulls towards the identity, so that few rows cannot make a wild map.
    """
    copies = pooled.shape[-1] // heads.size
    for at, states in enumerate(pooled.double().view(*pooled.shape[:2], copies, heads.size).mean(-2)):
        target = normalize(teacher.double(), dim=-1) * states.norm(dim=-1).mean()
        centre, target_centre = states.mean(0), target.mean(0)
        x, y = states - centre, target - target_centre
        gram = x.T @ x
        strength = _STRENGTH * gram.diagonal().mean()
        eye = torch.eye(gram.shape[0], dtype=gram.dtype, device=gram.device)
        weight = torch.linalg.solve(gram + strength * eye, x.T @ y + strength * eye).T
        heads.weight[at] = (weight / copies).repeat(1, copies).to(heads.weight.dtype)
        heads.bias[at] = (target_centre - weight @ centre).to(heads.bias.dtype)
