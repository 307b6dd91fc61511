"""Attention among flat tokens: every row sees itself alone."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from strata.model_store.training.packing import Packed

PACKED = "strata_packed"
_AMPERE = (8, 0)  # the first compute capability with flash attention
_HALF = (torch.float16, torch.bfloat16)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packed: Packed,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers asks for it: [1, heads, tokens, size] each, answered with [1, tokens, heads, size].

    On a GPU with the kernel for rows of different lengths, in one; else row by row, without padding or mask.
    """
    if has_varlen(query.device, query.dtype):
        from torch.nn.attention.varlen import varlen_attn

        query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))  # [tokens, heads, size]
        found = varlen_attn(query, key, value, packed.starts, packed.starts, packed.longest, packed.longest)
        assert isinstance(found, Tensor)
        return found[None], None
    rows = zip(*(torch.split(part[0], list(packed.lengths), dim=1) for part in (query, key, value)), strict=True)
    mixed = [_among_itself(*row) for row in rows]
    return torch.cat(mixed, dim=1).transpose(0, 1)[None], None


def _among_itself(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of one row's [heads, tokens, size], laid out anew: products of strided parts take twice the time."""
    query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
    scale = query.shape[-1] ** -0.5
    scores = torch.baddbmm(query.new_empty(()), query, key.transpose(1, 2), beta=0, alpha=scale)
    return torch.bmm(scores.softmax(-1), value)


@functools.cache
def has_varlen(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch has flash attention for flat tokens here: from 2.10, on a GPU."""
    if device.type != "cuda" or dtype not in _HALF or torch.cuda.get_device_capability(device) < _AMPERE:
        return False
    return importlib.util.find_spec("torch.nn.attention.varlen") is not None


AttentionInterface.register(PACKED, packed_attention)
