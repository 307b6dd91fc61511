"""Dense layers of a CPU: few numbers of lines, little waste, and the same product as torch's own."""

from __future__ import annotations

import pytest
import torch

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
