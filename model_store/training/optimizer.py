"""The optimizer: Muon for the blocks' matrices, AdamW for everything else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from strata.model_store.encoding.forward import Lanes
from strata.model_store.training.muon import Muon
from strata.model_store.training.recipe import Recipe
from strata.model_store.training.student import Student


class Optimizer:
    """Muon makes every direction of a matrix's update count the same, which moves a shallow layer to its new task in
    half of AdamW's steps.

    The blocks' matrices go by shape, each shape split among the lanes, which update their parts side by side.
    """

    def __init__(self, student: Student, recipe: Recipe, lanes: Lanes) -> None:
        self._lanes = lanes
        self._recipe = recipe
        self._weights = list(student.parameters())
        self._matrices: list[Tensor] = [
            m.weight for block in student.encoder.blocks() for m in block.modules() if isinstance(m, nn.Linear)
        ]
        apart = {id(weight) for weight in self._matrices}
        queries = [] if student.heads is None or student.heads.queries is None else [student.heads.queries]
        heads = [] if student.heads is None else [p for p in student.heads.parameters() if p not in set(queries)]
        plain = [p for p in student.encoder.parameters() if p.requires_grad and id(p) not in apart]
        groups: list[dict[str, Any]] = [
            {"params": plain, "rate": 1.0},
            {"params": heads, "rate": recipe.head_rate},
            {"params": queries, "rate": recipe.query_rate},
        ]
        self._adam = torch.optim.AdamW(
            [g for g in groups if g["params"]], betas=recipe.betas, weight_decay=0.0, fused=True
        )
        arithmetic = torch.bfloat16 if lanes.precision == "bf16" else torch.float32
        self.muons = [
            Muon(part, recipe.weight_decay, arithmetic=arithmetic, stacked=part[0].device.type != "cpu")
            for alike in _by_shape(self._matrices)
            for part in (alike[at :: lanes.count] for at in range(min(lanes.count, len(alike))))
        ]

    def step(self, factor: float) -> None:
        """Update every weight, at ``factor`` of the recipe's learning rates, and drop the gradients."""
        rate = self._recipe.learning_rate * factor
        for group in self._adam.param_groups:
            group["lr"] = rate * group["rate"]

        def update(muon: Muon | None) -> None:
            if muon is None:
                self._adam.step()
            else:
                muon.step(rate * self._recipe.matrix_rate)

        self._lanes.map(update, [None, *self.muons])
        for weight in self._weights:
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps, whatever the number of lanes."""
        held = {
            id(m): momentum for muon in self.muons for m, momentum in zip(muon.matrices, muon.momentum, strict=True)
        }
        return {"adam": self._adam.state_dict(), "momentum": [held[id(matrix)] for matrix in self._matrices]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self._adam.load_state_dict(state["adam"])
        held = {id(m): momentum for m, momentum in zip(self._matrices, state["momentum"], strict=True)}
        for muon in self.muons:
            muon.momentum.copy_(torch.stack([held[id(matrix)] for matrix in muon.matrices]))


def _by_shape(matrices: list[Tensor]) -> list[list[Tensor]]:
    shapes: dict[torch.Size, list[Tensor]] = {}
    for matrix in matrices:
        shapes.setdefault(matrix.shape, []).append(matrix)
    return list(shapes.values())
