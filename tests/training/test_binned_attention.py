"""Attention in bins: every row as it would be alone, both ways."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from strata.model_store.training.binned_attention import bin_rows, binned_attention

CPU = torch.device("cpu")


def alone(parts: list[torch.Tensor], lengths: list[int], heads: int) -> torch.Tensor:
    """Torch's own attention, row by row."""
    by_head = [part.unflatten(1, (heads, -1)).transpose(0, 1) for part in parts]
    rows = zip(*(torch.split(part, lengths, dim=1) for part in by_head), strict=True)
    return torch.cat([scaled_dot_product_attention(*row) for row in rows], dim=1).transpose(0, 1).flatten(1)


@pytest.mark.parametrize("lengths", [[1], [32], [3, 70, 33, 64, 1, 30, 2], [9] * 11, [40, 40, 32, 8]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_are_mixed_as_each_alone(lengths: list[int], dtype: torch.dtype) -> None:
    torch.manual_seed(sum(lengths))
    exact = [torch.randn(sum(lengths), 24, requires_grad=True) for _ in range(3)]
    parts = [part.detach().to(dtype).requires_grad_() for part in exact]
    wanted = alone(exact, lengths, heads=3)
    query, key, value = parts
    found = binned_attention(query, key, value, bin_rows(lengths, dtype, CPU), 3)
    onward = torch.randn_like(wanted)
    wanted.backward(onward)
    found.backward(onward.to(dtype))
    close = 1e-5 if dtype == torch.float32 else 0.06
    torch.testing.assert_close(found.float(), wanted, atol=close, rtol=close)
    for part, theirs in zip(parts, exact, strict=True):
        assert part.grad is not None
        torch.testing.assert_close(part.grad.float(), theirs.grad, atol=close, rtol=close)


def test_short_rows_fill_what_longer_ones_leave() -> None:
    made = bin_rows([20, 5, 70, 12, 26, 7], torch.float32, CPU)
    assert [(bins.count, bins.width) for bins in made.bins] == [(1, 96), (2, 32)]
    assert made.places == 96 + 64
    assert len(set(made.back.tolist())) == 140, "every token has a place of its own"


def test_a_row_that_fills_its_bin_needs_no_mask() -> None:
    made = bin_rows([64, 64, 31], torch.float32, CPU)
    assert [bins.mask is None for bins in made.bins] == [True, False]
