"""Muon against torch's own, whose arithmetic is fixed, and against what it is for."""

from __future__ import annotations

import pytest
import torch

from strata.model_store.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(24, 64), (64, 24), (32, 32)])
def test_every_direction_of_an_update_counts_about_the_same(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    steep = torch.randn(shape) @ torch.diag(torch.logspace(0, 1, shape[1]))
    values = torch.linalg.svdvals(orthogonal(steep[None])[0])
    assert 0.5 < values.min() < values.max() < 1.3


def test_moves_matrices_as_torch_does() -> None:
    torch.manual_seed(1)
    start, gradients = torch.randn(48, 32), [torch.randn(48, 32) for _ in range(4)]
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    mine = Muon([ours], weight_decay=0.1, arithmetic=torch.bfloat16)
    torchs = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for gradient in gradients:
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step(0.02)
        torchs.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.01 * moved
    assert moved > 0.1


def test_matrices_of_one_shape_move_as_each_would_alone() -> None:
    torch.manual_seed(2)
    together: list[torch.Tensor] = [torch.nn.Parameter(torch.randn(16, 8)) for _ in range(3)]
    alone = [torch.nn.Parameter(matrix.detach().clone()) for matrix in together]
    stacked, single = Muon(together, weight_decay=0.1), [Muon([matrix], weight_decay=0.1) for matrix in alone]
    for _ in range(3):
        for one, other in zip(together, alone, strict=True):
            one.grad = torch.randn(16, 8)
            other.grad = one.grad.clone()
        stacked.step(0.02)
        for muon in single:
            muon.step(0.02)
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("shape", [(16, 8), (8, 16)])
def test_one_after_the_other_is_what_stacked_is(shape: tuple[int, int]) -> None:
    torch.manual_seed(3)
    start = [torch.randn(shape) for _ in range(3)]
    ends = []
    for stacked in (True, False):
        matrices: list[torch.Tensor] = [torch.nn.Parameter(matrix.clone()) for matrix in start]
        muon = Muon(matrices, weight_decay=0.1, stacked=stacked)
        for step in range(3):
            for at, matrix in enumerate(matrices):
                matrix.grad = torch.randn(shape, generator=torch.Generator().manual_seed(10 * step + at))
            muon.step(0.02)
        ends.append(torch.stack([*matrices, *muon.momentum]))
    torch.testing.assert_close(*ends)


def test_a_matrix_without_a_gradient_is_told() -> None:
    still, moving = (torch.nn.Parameter(torch.ones(4, 4)) for _ in range(2))
    moving.grad = torch.randn(4, 4)
    with pytest.raises(ValueError, match="all its matrices or none"):
        Muon([still, moving], weight_decay=0.1).step(0.1)
