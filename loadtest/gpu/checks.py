"""Correctness on the device: every exit against plain transformers in float32, alone and in a batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import cycle

import numpy as np
import numpy.typing as npt
import torch

from strata.app.engine.batch import Batch, Row
from strata.app.engine.encoder import Encoder
from strata.loadtest.figures import Figure
from strata.model_store.bundle.bundle import Bundle, read_tokenizer
from strata.model_store.encoding.reference import ReferenceEncoder

_AGREE = (-1.0, 0.98, 0.99, 2.0)  # cosines of two exits at which texts leave, the first always, the last never
BOUNDS = {"float32": 1 - 1e-5, "bfloat16": 0.9995, "float16": 0.9995}
Vector = npt.NDArray[np.float32]


class Reference:
    """The unit vectors that texts should have at every exit."""

    def __init__(self, bundle: Bundle, texts: Sequence[str], device: torch.device) -> None:
        self.exits = sorted({*bundle.manifest.exits, *bundle.manifest.heads})
        self._bundle = bundle
        limit = bundle.manifest.max_tokens
        self.ids = [
            np.array(e.ids[:limit], np.int32) for e in read_tokenizer(bundle.path).encode_batch_fast(list(texts))
        ]
        found = ReferenceEncoder(bundle.path, device).encode(texts, self.exits)
        self.vectors = {e: v / np.linalg.norm(v, axis=1, keepdims=True) for e, v in found.items()}

    def check(self, encoder: Encoder, dtype: str) -> list[Figure]:
        """Worst cosines of an encoder over every text and exit."""
        dim = self._bundle.manifest.full_dim
        asked = [(i, e) for i in range(len(self.ids)) for e in self.exits]
        batched = encoder.run(Batch([Row(self.ids[i], e, dim) for i, e in asked])).vectors
        alone = [encoder.run(Batch([Row(self.ids[i], e, dim)])).vectors[0] for i, e in asked]
        wanted = [self.vectors[e][i] for i, e in asked]
        print(f"{dtype}: in a batch {_least(batched, wanted):.7f}, alone {_least(alone, wanted):.7f}", flush=True)
        worst = Figure(f"{dtype}: worst cosine in a batch", _least(batched, wanted), at_least=BOUNDS[dtype])
        single = Figure(f"{dtype}: worst cosine alone", _least(alone, wanted), at_least=BOUNDS[dtype])
        last = max(self.exits)
        watched = [Row(ids, last, dim, threshold=cosine) for ids, cosine in zip(self.ids, cycle(_AGREE), strict=False)]
        found = encoder.run(Batch(watched))
        left = [self.vectors[layers][i] for i, layers in enumerate(found.layers)]
        name = f"{dtype}: worst cosine by agreement, {len(set(found.layers))} depths"
        agreed = Figure(name, _least(found.vectors, left), at_least=BOUNDS[dtype])
        return [worst, single, agreed, Figure(f"{dtype}: alone against in a batch", _least(alone, batched))]


def _least(one: Iterable[Vector], other: Iterable[Vector]) -> float:
    return float(np.min([a @ b for a, b in zip(one, other, strict=True)]))  # what is no number is the least
