"""Texts to token ids, and rows of ids to padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def tokenize(tokenizer: Any, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Ids of each text, special tokens included, cut at ``max_tokens``; not padded."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_tokens, padding=False, return_attention_mask=False)
    rows: list[list[int]] = encoded["input_ids"]
    return rows


def pad(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask`` [rows, longest], padded on the right."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([list(row) + [pad_id] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
