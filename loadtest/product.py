"""The limit of a core: its best matrix product, and what of the engine's work counts as useful beside it."""

from __future__ import annotations

import time
from collections.abc import Iterable

from strata.model_store.bundle.manifest import Architecture

_ROWS, _ROUNDS = 1024, 25


def best_product(a: Architecture, dtype: str) -> float:
    """Operations a second of one core, with weights laid out beforehand and warm: the up projection's shape."""
    import torch

    from strata.app.engine.backends.torch_dense import PackedDense

    kind = getattr(torch, dtype)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            x = torch.ones(_ROWS, a.hidden_size, dtype=kind)
            dense = PackedDense(torch.ones(a.intermediate_size, a.hidden_size, dtype=kind), None)
            took = []
            for _ in range(_ROUNDS):
                began = time.perf_counter()
                dense(x)
                took.append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return 2 * _ROWS * a.hidden_size * a.intermediate_size / min(took)


def useful_operations(a: Architecture, lengths: Iterable[int]) -> int:
    """Of the products of real tokens at full depth, without padding."""
    found = list(lengths)
    dense = a.hidden_size * (4 * a.hidden_size + (3 if a.pre_norm else 2) * a.intermediate_size) * sum(found)
    return 2 * a.layers * (dense + 2 * a.hidden_size * sum(n * n for n in found))
