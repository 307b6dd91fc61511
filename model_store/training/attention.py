"""Attention among flat tokens: every row sees itself alone."""

from __future__ import annotations

import functools
import importlib.util
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from strata.model_store.training.binned_attention import Binned, bin_rows, binned_attention
from strata.model_store.training.packing import Packed

PACKED = "strata_packed"
_AMPERE = (8, 0)  # the first compute capability with flash attention
_HALF = (torch.float16, torch.bfloat16)


def attending(packed: Packed, dtype: torch.dtype) -> Packed | Binned:
    """How rows are told to ``packed_attention``: as they lie for a GPU's kernel, else in bins."""
    device = packed.ids.device
    return packed if has_varlen(device, dtype) else bin_rows(packed.lengths, dtype, device)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    rows: Packed | Binned,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers asks for it: [1, heads, tokens, size] each, answered with [1, tokens, heads, size]."""
    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))  # [tokens, heads, size]
    if isinstance(rows, Binned):
        heads = query.shape[1]
        mixed = binned_attention(query.flatten(1), key.flatten(1), value.flatten(1), rows, heads)
        return mixed.view(1, len(mixed), heads, -1), None
    from torch.nn.attention.varlen import varlen_attn

    found = varlen_attn(query, key, value, rows.starts, rows.starts, rows.longest, rows.longest)
    assert isinstance(found, Tensor)
    return found[None], None


@functools.cache
def has_varlen(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch has flash attention for flat tokens here: from 2.10, on a GPU."""
    if device.type != "cuda" or dtype not in _HALF or torch.cuda.get_device_capability(device) < _AMPERE:
        return False
    return importlib.util.find_spec("torch.nn.attention.varlen") is not None


AttentionInterface.register(PACKED, packed_attention)
