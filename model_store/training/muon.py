"""Muon over matrices of one shape at a time, in the arithmetic that the machine is quick in."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic that takes every singular value near 1 in five steps
_STEPS = 5


class Muon:
    """Nesterov momentum, made orthogonal by Newton-Schulz steps (K. Jordan's Muon), scaled to the size of AdamW's
    updates (arXiv 2502.16982), with decoupled weight decay.

    What ``torch.optim.Muon`` does with ``adjust_lr_fn="match_rms_adamw"``, but that one goes matrix by matrix, and its
    products are in bf16, which a CPU without it emulates at a fiftieth of fp32's speed. ``matrices`` are of one shape
    [rows, columns]; ``arithmetic`` is that of the products. ``stacked``: all in one product, where a GPU would wait for
    launches; else one after the other, each in a CPU core's own cache from its gradient to its new value.
    """

    def __init__(
        self,
        matrices: list[Tensor],
        weight_decay: float,
        momentum: float = 0.95,
        arithmetic: torch.dtype = torch.float32,
        stacked: bool = True,
    ) -> None:
        self.matrices = matrices
        self.momentum = torch.zeros(len(matrices), *matrices[0].shape, device=matrices[0].device)
        self._decay = weight_decay
        self._kept = momentum
        self._arithmetic = arithmetic
        self.stacked = stacked

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every matrix by its gradient. Raises ValueError where one has none."""
        gradients = [matrix.grad for matrix in self.matrices if matrix.grad is not None]
        if len(gradients) < len(self.matrices):
            raise ValueError("Muon moves all its matrices or none, and some have no gradient")
        if self.stacked:
            self._move(self.matrices, self.momentum, torch.stack(gradients), rate)
        else:
            for matrix, momentum, gradient in zip(self.matrices, self.momentum, gradients, strict=True):
                self._move([matrix], momentum, gradient, rate)

    def _move(self, matrices: list[Tensor], momentum: Tensor, gradient: Tensor, rate: float) -> None:
        """Move matrices, stacked in momentum and gradient unless there is one alone."""
        momentum.lerp_(gradient, 1 - self._kept)
        update = orthogonal(gradient.lerp(momentum, self._kept).to(self._arithmetic))
        update = update.to(gradient.dtype, memory_format=torch.contiguous_format)
        torch._foreach_mul_(matrices, 1 - rate * self._decay)
        scale = -0.2 * math.sqrt(max(matrices[0].shape)) * rate
        torch._foreach_add_(matrices, list(update.view(len(matrices), *matrices[0].shape).unbind()), alpha=scale)


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices [..., rows, columns] with all singular values brought near 1 (0.7 to 1.2), in their own arithmetic."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    found = matrices.transpose(-2, -1) if tall else matrices
    found = found / found.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)  # no singular value above 1
    plus_product = torch.addmm if found.dim() == 2 else torch.baddbmm
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        gram = found @ found.transpose(-2, -1)
        found = plus_product(found, plus_product(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.transpose(-2, -1) if tall else found
