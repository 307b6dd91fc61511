"""Muon, in the arithmetic that the machine is quick in."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic that takes every singular value near 1 in five steps
_STEPS = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal by Newton-Schulz steps (K. Jordan's Muon), scaled to the size of AdamW's
    updates (arXiv 2502.16982), with decoupled weight decay. Parameters are matrices.

    What ``torch.optim.Muon`` does with ``adjust_lr_fn="match_rms_adamw"``, but that one's products are in bf16, which a
    CPU without it emulates at a fiftieth of fp32's speed. ``arithmetic``: of the products.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        weight_decay: float,
        momentum: float = 0.95,
        arithmetic: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": 0.0, "weight_decay": weight_decay, "momentum": momentum})
        self._arithmetic = arithmetic

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient, by the group's ``lr``."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                if not (state := self.state[matrix]):
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                momentum = state["momentum_buffer"]
                momentum.lerp_(matrix.grad, 1 - group["momentum"])
                update = orthogonal(matrix.grad.lerp(momentum, group["momentum"]).to(self._arithmetic))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update.to(matrix.dtype), alpha=-0.2 * math.sqrt(max(matrix.shape)) * group["lr"])


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix with all its singular values brought near 1 (0.7 to 1.2), in its own arithmetic."""
    tall = matrix.shape[0] > matrix.shape[1]
    found = matrix.T if tall else matrix
    found = found / found.norm().clamp(min=1e-7)  # no singular value above 1
    a, b, c = _COEFFICIENTS
    for _ in range(_STEPS):
        gram = found @ found.T
        found = torch.addmm(found, torch.addmm(gram, gram, gram, beta=b, alpha=c), found, beta=a)
    return found.T if tall else found
