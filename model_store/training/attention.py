"""Attention among flat tokens: every row sees itself alone."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from strata.model_store.training.packing import Packed, PaddedRows

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
    rows: PaddedRows | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers asks for it: [1, heads, tokens, size] each, answered with [1, tokens, heads, size].

    ``rows``: what ``packed.padded`` gave, where attention is to run a padded row a line; None where the kernel for
    rows of different lengths is there (``has_varlen``).
    """
    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))  # [tokens, heads, size]
    if rows is None:
        from torch.nn.attention.varlen import varlen_attn

        found = varlen_attn(query, key, value, packed.starts, packed.starts, packed.longest, packed.longest)
        assert isinstance(found, Tensor)
        return found[None], None
    query, key, value = (
        part[rows.index].transpose(1, 2) for part in (query, key, value)
    )  # [rows, heads, longest, size]
    scores = (query * (scaling or query.shape[-1] ** -0.5)) @ key.transpose(2, 3)
    if not rows.even:
        scores = scores.masked_fill(~rows.mask[:, None, None], torch.finfo(scores.dtype).min)
    mixed = scores.softmax(-1) @ value
    return packed.flat(mixed.transpose(1, 2), rows)[None], None


def has_varlen(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch has flash attention for flat tokens here: from 2.10, on a GPU."""
    if device.type != "cuda" or dtype not in _HALF or torch.cuda.get_device_capability(device) < _AMPERE:
        return False
    return importlib.util.find_spec("torch.nn.attention.varlen") is not None


AttentionInterface.register(PACKED, packed_attention)
