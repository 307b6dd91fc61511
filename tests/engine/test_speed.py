"""The engine stays near the machine's limit: its useful arithmetic over that of the best bfloat16 matrix product."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from strata.app.engine.backends import torch_backend
from strata.app.engine.backends.torch_dense import PackedDense
from strata.app.engine.batch import Batch, Row
from strata.app.engine.encoder import Encoder
from strata.loadtest.product import useful_operations
from strata.model_store.bundle.bundle import Bundle
from strata.model_store.bundle.registry import DEFAULT, find

# Recorded with the default bundle at full depth, one thread, on AMD EPYC with AVX512-BF16: 0.73 where the product gives
# 205 GFLOP/s, and where it gives 506 this.
RECORDED = 0.65
ALLOWED = 0.85  # of the recorded ratio
ROUNDS = 9
ATTEMPTS = 3  # a machine that others use may disturb all rounds of one
LENGTHS = (8, 11, 14, 17, 20, 23, 25, 27, 29, 31, 34, 37, 40, 43, 47, 52)  # tokens of sentences of 5 to 40 words


@pytest.mark.skipif(not torch.cpu._is_avx512_bf16_supported(), reason="this CPU has no bfloat16 products")
@pytest.mark.skipif(torch.cpu._is_amx_tile_supported(), reason="the ratio was recorded without AMX's products")
def test_a_batch_runs_near_the_speed_of_a_matrix_product() -> None:
    """The best of several turns each, in turns, so that a busy machine slows both."""
    bundle = Bundle.open(find(DEFAULT), checksums=False)
    a = bundle.manifest.architecture
    threads = torch.get_num_threads()
    try:
        run = Encoder(bundle.manifest, torch_backend.build(bundle, dtype="bfloat16", device="cpu", threads=1)).run
        batch = Batch([Row(np.full(n, 2000, np.int32), a.layers, bundle.manifest.full_dim) for n in LENGTHS])
        x = torch.ones(1024, a.hidden_size, dtype=torch.bfloat16)
        product = PackedDense(torch.ones(a.intermediate_size, a.hidden_size, dtype=torch.bfloat16), None)
        found: list[float] = []
        while len(found) < ATTEMPTS and max(found, default=0) < ALLOWED * RECORDED:
            turns = [(seconds(lambda: product(x)), seconds(lambda: run(batch))) for _ in range(ROUNDS)][1:]
            limit = 2 * x.numel() * a.intermediate_size / min(took for took, _ in turns)
            found.append(useful_operations(a, LENGTHS) / min(took for _, took in turns) / limit)
    finally:
        torch.set_num_threads(threads)
    assert max(found) >= ALLOWED * RECORDED, found


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
