"""The kernels as functions of tensors, with the block sizes they run at."""

from __future__ import annotations

import torch
import triton

from strata.app.engine.attention import is_local, rotary_table
from strata.app.engine.backends.cuda import kernels
from strata.app.engine.backends.cuda.buffers import Buffers
from strata.app.engine.weights import embedding_parts, relative_bias, word_table
from strata.model_store.bundle.bundle import Bundle

_ATTENDED = 512  # hidden size up to which all queries of a row fit the shared memory of one program
_LINES = 4  # tokens that a program of add_norm takes


def _wide(size: int) -> int:
    """The power of two a kernel's block has for ``size`` elements; 16 at least, for products."""
    return max(16, int(triton.next_power_of_2(size)))


class Embedding:
    """The embedding layer."""

    def __init__(self, bundle: Bundle, *, dtype: torch.dtype, device: torch.device) -> None:
        parts = {k: torch.tensor(v, device=device) for k, v in embedding_parts(bundle).items()}
        self._eps = bundle.manifest.architecture.norm_eps
        self._word = torch.tensor(word_table(bundle), device=device)
        self._position = parts.get("position")
        self._weight, self._bias = parts["norm.weight"], parts["norm.bias"]

    def __call__(self, to: Buffers, places: int) -> None:
        """Fill hidden states, starts and ends of the first ``places`` tokens."""
        size = to.hidden.shape[1]
        has = self._position is not None
        kernels.embed[(places,)](
            to.ids, to.sources, to.row_starts,
            self._word, self._position if has else self._word, self._weight, self._bias,
            to.hidden, to.starts, to.ends, to.rows, places, self._eps,
            SIZE=size, WIDE=_wide(size), POSITIONS=has, num_warps=2,
        )  # fmt: skip


def attention_blocks(head_size: int, dtype: torch.dtype) -> tuple[tuple[int, int], int]:
    """Queries and keys of a program of attention, and its warps."""
    wide = dtype == torch.float32 or head_size > 64
    return (32, 32) if head_size <= 32 or wide else (64, 64), 4 if wide or head_size > 32 else 2


class Attention:
    """Self-attention of any family."""

    def __init__(self, bundle: Bundle, *, dtype: torch.dtype, device: torch.device) -> None:
        a = self.a = bundle.manifest.architecture
        bias = relative_bias(bundle)
        self._bias = torch.zeros(1, device=device) if bias is None else torch.tensor(bias, device=device)
        self._reach = 0 if bias is None else bias.shape[1] // 2
        self._angles = {False: (self._bias, self._bias)}
        if a.rotary is not None:
            for local in (False, True):
                cos, sin = rotary_table(a.rotary, a.head_size, bundle.manifest.max_tokens, local=local)
                self._angles[local] = torch.tensor(cos, device=device), torch.tensor(sin, device=device)
        self._precision = "ieee" if dtype == torch.float32 else "tf32"  # the latter means nothing to 16-bit operands
        self.blocks, self.warps = attention_blocks(a.head_size, dtype)

    def __call__(self, qkv: torch.Tensor, buffers: Buffers, index: int) -> torch.Tensor:
        """[places, 3 * hidden] -> [places, hidden] for block ``index``."""
        a, places = self.a, len(qkv)
        local = is_local(a.rotary, index)
        cos, sin = self._angles[local]
        half = a.head_size // 2 if a.rotary else 0
        queries, keys = self.blocks
        out = torch.empty((places, a.hidden_size), dtype=qkv.dtype, device=qkv.device)
        kernels.attention[(triton.cdiv(places, queries), a.attention_heads)](
            qkv, buffers.starts, buffers.ends, self._bias, cos, sin, out, places, a.head_size**-0.5,
            HEADS=a.attention_heads, HEAD=a.head_size, WIDE=_wide(a.head_size), HALF=half, HALF_WIDE=_wide(half or 1),
            REACH=self._reach, WINDOW=a.rotary.local_window // 2 if a.rotary and local else 0,
            QUERIES=queries, KEYS=keys, PRECISION=self._precision, num_warps=self.warps,
        )  # fmt: skip
        return out


def add_norm(
    a: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, eps: float, *,
    out: torch.Tensor | None = None, total: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """LayerNorm(a + x), into ``out`` where given (which may be x); the sum itself into ``total`` where given."""
    places, size = a.shape
    out = torch.empty_like(a) if out is None else out
    kernels.add_norm[(triton.cdiv(places, _LINES),)](
        a, x, weight, weight if bias is None else bias, out if total is None else total, out, places, eps,
        SIZE=size, WIDE=_wide(size), LINES=_LINES, HAS_BIAS=bias is not None, KEEP=total is not None, num_warps=2,
    )  # fmt: skip
    return out


def pool_lines(size: int, dtype: torch.dtype, *, mean: bool) -> int:
    """Tokens that a program of pool takes at once: of a mean as many as two warps hold."""
    return max(2, (32 if mean else 8) * 1024 // (_wide(size) * dtype.itemsize))


def pool(
    hidden: torch.Tensor, row_starts: torch.Tensor, facts: torch.Tensor, layers: int, *,
    queries: torch.Tensor | None, first: bool, dtype: torch.dtype,
) -> torch.Tensor:  # fmt: skip
    """Vectors before the head of the rows whose depth is ``layers``: [rows, queries * hidden]; of others, anything."""
    rows, size = len(facts), hidden.shape[1]
    count = 1 if queries is None else len(queries)
    out = torch.empty((rows, count * size), dtype=dtype, device=hidden.device)
    if queries is not None and hidden.dtype != torch.float32 and size <= _ATTENDED:
        kernels.attend[(rows,)](
            hidden, row_starts, facts, queries, out, layers,
            SIZE=size, WIDE=_wide(size), COUNT=count, QUERIES=_wide(count), LINES=16, num_warps=4,
        )  # fmt: skip
        return out
    kernels.pool[(rows, count)](
        hidden, row_starts, facts, hidden if queries is None else queries, out, layers,
        SIZE=size, WIDE=_wide(size), COUNT=count, QUERIES=queries is not None, FIRST=first,
        LINES=pool_lines(size, hidden.dtype, mean=queries is None), num_warps=2,
    )  # fmt: skip
    return out


def finish(
    vectors: torch.Tensor, bias: torch.Tensor | None, facts: torch.Tensor, order: torch.Tensor,
    answers: torch.Tensor, layers: int,
) -> None:  # fmt: skip
    """Cut and normalise the rows whose depth is ``layers`` into the batch's answers. vectors: [rows, full_dim]."""
    rows, size = vectors.shape
    kernels.finish[(rows,)](
        vectors, vectors if bias is None else bias, facts, order, answers, layers,
        SIZE=size, WIDE=_wide(size), HAS_BIAS=bias is not None, num_warps=2,
    )  # fmt: skip
