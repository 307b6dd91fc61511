"""Latency per (exit, texts, tokens) through the engine as the server runs it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from strata.app.engine.batch import Batch, Row
from strata.app.engine.choose import sample_tokens
from strata.app.engine.options import EngineOptions
from strata.app.engine.pool import EnginePool
from strata.model_store.bundle.bundle import Bundle
from strata.model_store.bundle.latency import LatencyProfile, Timing, machine

BATCHES = (1, 8, 32)
LENGTHS = (16, 64, 128)
_ROUNDS = 3


async def measure_latency(
    bundle: Bundle,
    options: EngineOptions,
    batches: Sequence[int] = BATCHES,
    lengths: Sequence[int] = LENGTHS,
    progress: bool = False,
) -> LatencyProfile:
    """Best of three rounds on one worker while the others are idle, the kinds of batches in turn.

    Lengths beyond the model's longest text are left out. Raises EngineError when the engine cannot start.
    """
    manifest = bundle.manifest
    ids = np.concatenate(sample_tokens(bundle))
    kinds = [(e, n, t) for e in manifest.exits for n in batches for t in lengths if t <= manifest.max_tokens]
    seconds: dict[tuple[int, int, int], list[float]] = {kind: [] for kind in kinds}
    pool = EnginePool(bundle.path, options)
    await pool.start()
    try:
        choice = pool.choice
        assert choice is not None
        with tqdm(total=_ROUNDS * len(kinds), desc="latency", unit="batch", disable=not progress) as bar:
            for _ in range(_ROUNDS):
                for layers, texts, tokens in kinds:
                    rows = [
                        Row(np.resize(np.roll(ids, -7 * i), tokens), layers, manifest.full_dim) for i in range(texts)
                    ]
                    began = time.perf_counter()
                    await pool.run(Batch(rows))
                    seconds[layers, texts, tokens].append(time.perf_counter() - began)
                    bar.update()
    finally:
        await pool.stop()
    return LatencyProfile(
        model=manifest.name,
        revision=manifest.revision,
        machine=machine(),
        backend=choice.backend,
        dtype=choice.dtype,
        device=choice.device,
        threads=choice.threads,
        timings=tuple(Timing(layers=e, texts=n, tokens=t, seconds=min(took)) for (e, n, t), took in seconds.items()),
    )
