"""The up projection and its GELU in one Triton kernel: slower than cuBLAS with its own, and kept to be compared."""

from __future__ import annotations

# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: N803 - compile-time arguments are upper-case by Triton's custom
import triton
import triton.language as tl


@triton.jit(do_not_specialize=["tokens"])
def product_gelu(
    x, weight, bias, out, tokens,
    OUT: tl.constexpr, IN: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    """out = gelu(x @ weight.T + bias), the exact GELU. x: [tokens, IN], weight: [OUT, IN], out: [tokens, OUT]."""
    program = tl.program_id(0)
    across: tl.constexpr = (OUT + COLUMNS - 1) // COLUMNS
    row = program // across * ROWS + tl.arange(0, ROWS)
    column = program % across * COLUMNS + tl.arange(0, COLUMNS)
    deep = tl.arange(0, DEEP)
    there = row < tokens
    x_at = x + row.to(tl.int64)[:, None] * IN + deep[None, :]
    w_at = weight + column[None, :] * IN + deep[:, None]
    total = tl.zeros([ROWS, COLUMNS], tl.float32)
    for k in range(0, IN, DEEP):
        left = tl.load(x_at + k, mask=there[:, None] & (k + deep < IN)[None, :], other=0.0)
        right = tl.load(w_at + k, mask=(column < OUT)[None, :] & (k + deep < IN)[:, None], other=0.0)
        total = tl.dot(left, right, total)
    total += tl.load(bias + column, mask=column < OUT, other=0.0).to(tl.float32)[None, :]
    total = 0.5 * total * (1.0 + tl.erf(total * 0.7071067811865476))
    out_at = out + row.to(tl.int64)[:, None] * OUT + column[None, :]
    tl.store(out_at, total.to(out.dtype.element_ty), mask=there[:, None] & (column < OUT)[None, :])
