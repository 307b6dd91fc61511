"""The mean of the weights that a run's last part passes through: it lies nearer to the middle of a valley than any."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Average:
    """A plain mean of weights, taken after each step that counts."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._weights = list(weights)
        self._mean: list[Tensor] = []
        self._count = 0

    @torch.no_grad()
    def add(self) -> None:
        """Take in the weights as they are now."""
        if not self._count:
            self._mean = [weight.detach().clone() for weight in self._weights]
        else:
            torch._foreach_lerp_(self._mean, self._weights, 1 / (self._count + 1))
        self._count += 1

    def forget(self) -> None:
        """Begin anew."""
        self._mean, self._count = [], 0

    @torch.no_grad()
    def put(self) -> None:
        """Set the weights to their mean, if any were taken in."""
        if self._count:
            torch._foreach_copy_(self._weights, self._mean)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"mean": self._mean, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        device = self._weights[0].device
        self._mean, self._count = [mean.to(device) for mean in state["mean"]], state["count"]
