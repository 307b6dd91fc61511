"""Which arithmetic to train in: bfloat16 where the machine has it quickly, found by measuring."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext

import torch

_WORTH = 1.3  # bf16 must beat fp32's matrix product by this factor to pay for its conversions


def pick_device() -> torch.device:
    """The first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_precision(wanted: str, device: torch.device) -> str:
    """``fp32`` or ``bf16``; ``auto`` times both (0.2 s), since a CPU may emulate bf16 and be slower with it."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if _product_rate(torch.bfloat16) > _WORTH * _product_rate(torch.float32) else "fp32"


def arithmetic(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The autocast context for a forward pass."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def _product_rate(dtype: torch.dtype) -> float:
    """Products of an encoder's feed-forward size per second on the CPU: the best of many, other work being noise."""
    x, w = torch.ones(1024, 384, dtype=dtype), torch.ones(1536, 384, dtype=dtype)
    best = float("inf")
    for _ in range(20):
        start = time.perf_counter()
        torch.nn.functional.linear(x, w)
        best = min(best, time.perf_counter() - start)
    return 1 / best
