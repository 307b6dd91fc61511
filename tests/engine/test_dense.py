"""Dense layers of a CPU: few numbers of lines, little waste, and the same product as torch's own."""

from __future__ import annotations

import time

import pytest
import torch

from strata.app.engine.backends import torch_dense
from strata.app.engine.backends.torch_dense import bins_of, can_pack, lines_of, packed_product


def test_batches_are_computed_at_few_sizes() -> None:
    for tokens in range(1, 20_000):
        lines = lines_of(tokens)
        assert tokens <= lines == lines_of(lines)
        assert lines - tokens < max(16, tokens / 8)
        assert tokens <= bins_of(tokens) < max(tokens + 1, tokens * 1.25)
    assert len({lines_of(tokens) for tokens in range(1, 513)}) == 27
    assert len({lines_of(tokens) for tokens in range(1, 20_000)}) < 80


@pytest.mark.skipif(not can_pack(torch.float32), reason="this torch has no oneDNN")
def test_a_packed_product_is_torchs_own() -> None:
    weight, x = torch.randn(24, 40), torch.randn(19, 40)
    product = packed_product(weight)
    for rows in (1, 16, 19):
        torch.testing.assert_close(product(x[:rows]), x[:rows] @ weight.T, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("float32_s", "bfloat16_s", "quicker"),
    [(0.001, 0.003, torch.float32), (0.003, 0.001, torch.bfloat16), (0.003, 0.003, torch.bfloat16)],
)
def test_the_quicker_of_two_dtypes_is_measured_and_a_tie_is_bfloat16(
    monkeypatch: pytest.MonkeyPatch, float32_s: float, bfloat16_s: float, quicker: torch.dtype
) -> None:
    takes = {torch.float32: float32_s, torch.bfloat16: bfloat16_s}

    class Waits:
        def __init__(self, weight: torch.Tensor, bias: None) -> None:
            self._seconds = takes[weight.dtype]

        def __call__(self, x: torch.Tensor) -> None:
            time.sleep(self._seconds)

    monkeypatch.setattr(torch_dense, "PackedDense", Waits)
    monkeypatch.setattr(torch_dense, "can_pack", lambda dtype: True)
    assert torch_dense.quicker_dtype(64, 64) == quicker


def test_without_products_in_bfloat16_there_is_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_dense, "can_pack", lambda dtype: dtype == torch.float32)
    assert torch_dense.quicker_dtype(64, 64) == torch.float32
