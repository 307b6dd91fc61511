"""The optimizer: Muon for the blocks' matrices, AdamW for everything else."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from strata.model_store.encoding.forward import Lanes
from strata.model_store.training.muon import Muon
from strata.model_store.training.recipe import Recipe
from strata.model_store.training.student import Student


class Optimizer:
    """Muon makes every direction of a matrix's update count the same, which moves a shallow layer to its new task in
    half of AdamW's steps.

    One Muon a block, so that blocks are updated side by side in the lanes, and blocks that a step left out are not.
    """

    def __init__(self, student: Student, recipe: Recipe, lanes: Lanes) -> None:
        self._lanes = lanes
        self._rate = recipe.learning_rate
        matrices = [[m.weight for m in block.modules() if isinstance(m, nn.Linear)] for block in student.blocks()]
        apart = {id(weight) for block in matrices for weight in block}
        queries = [] if student.heads is None or student.heads.queries is None else [student.heads.queries]
        heads = [] if student.heads is None else [p for p in student.heads.parameters() if p not in set(queries)]
        plain = [p for p in student.backbone.parameters() if p.requires_grad and id(p) not in apart]
        groups: list[dict[str, Any]] = [
            {"params": plain, "rate": 1.0},
            {"params": heads, "rate": recipe.head_rate},
            {"params": queries, "rate": recipe.query_rate},
        ]
        self._optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW([g for g in groups if g["params"]], betas=recipe.betas, weight_decay=0.0, fused=True)
        ]
        arithmetic = torch.bfloat16 if lanes.precision == "bf16" else torch.float32
        self._optimizers += [
            Muon([{"params": weights, "rate": recipe.matrix_rate}], recipe.weight_decay, arithmetic=arithmetic)
            for weights in matrices
        ]

    def step(self, factor: float) -> None:
        """Update what has a gradient, at ``factor`` of the recipe's learning rates, and drop the gradients."""

        def update(optimizer: torch.optim.Optimizer) -> None:
            for group in optimizer.param_groups:
                group["lr"] = self._rate * group["rate"] * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        self._lanes.map(update, self._optimizers)

    def state_dict(self) -> list[dict[str, Any]]:
        """What a checkpoint keeps."""
        return [optimizer.state_dict() for optimizer in self._optimizers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Go on from what a checkpoint kept."""
        for optimizer, state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(state)
