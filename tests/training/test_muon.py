"""Muon against torch's own, whose arithmetic is fixed, and against what it is for."""

from __future__ import annotations

import pytest
import torch

from strata.model_store.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(24, 64), (64, 24), (32, 32)])
def test_every_direction_of_an_update_counts_about_the_same(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    steep = torch.randn(shape) @ torch.diag(torch.logspace(0, 1, shape[1]))
    values = torch.linalg.svdvals(orthogonal(steep))
    assert 0.5 < values.min() < values.max() < 1.3


def test_moves_matrices_as_torch_does() -> None:
    torch.manual_seed(1)
    start, gradients = torch.randn(48, 32), [torch.randn(48, 32) for _ in range(4)]
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    mine = Muon([{"params": [ours], "lr": 0.02}], weight_decay=0.1, arithmetic=torch.bfloat16)
    torchs = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        torchs.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.01 * moved
    assert moved > 0.1


def test_what_has_no_gradient_stays() -> None:
    still, moving = (torch.nn.Parameter(torch.ones(4, 4)) for _ in range(2))
    moving.grad = torch.randn(4, 4)
    Muon([{"params": [still, moving], "lr": 0.1}], weight_decay=0.1).step()
    assert torch.equal(still, torch.ones(4, 4))
    assert not torch.equal(moving, torch.ones(4, 4))
