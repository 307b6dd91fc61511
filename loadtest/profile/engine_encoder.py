"""Vectors as the engine makes them in int8, which the reference encoder has not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from strata.app.engine.backends import torch_backend
from strata.app.engine.batch import Batch, Row
from strata.app.engine.flat import flatten
from strata.model_store.bundle.bundle import Bundle, read_tokenizer
from strata.model_store.bundle.prompts import InputType, prompt_text
from strata.model_store.encoding.buckets import buckets
from strata.model_store.encoding.reference import Vectors
from strata.model_store.profiling.encoders import Told

_BATCH_TOKENS = 1024


class EngineEncoder:
    """A bundle by the engine's torch backend on a CPU: every exit from one pass, as a server's workers compute it."""

    def __init__(self, bundle: Bundle, dtype: str, told: Told = lambda done: None) -> None:
        """Raises ValueError where the backend has not this dtype for this bundle."""
        self._manifest = bundle.manifest
        self.layers = bundle.manifest.architecture.layers
        threads = torch.get_num_threads()
        self._backend = torch_backend.build(bundle, dtype=dtype, device="cpu", threads=threads)
        self._tokenizer = read_tokenizer(bundle.path, lowercase=bundle.manifest.lowercase)
        self._tokenizer.enable_truncation(bundle.manifest.max_tokens)
        self._told = told

    def encode(
        self, texts: Sequence[str], exits: Sequence[int], input_type: InputType | None = None
    ) -> Mapping[int, Vectors]:
        """Vectors [texts, full dim] by exit, neither cut nor normalised."""
        m = self._manifest
        prompted = [prompt_text(m.prompts, m.default_prompt, input_type) + text for text in texts]
        rows = [np.array(e.ids, np.int32) for e in self._tokenizer.encode_batch_fast(prompted)]
        found = {exit_: np.empty((len(rows), m.full_dim), np.float32) for exit_ in exits}
        for some in buckets([len(row) for row in rows], _BATCH_TOKENS):
            flat = flatten(Batch([Row(rows[i], self.layers, m.full_dim) for i in some]))
            lines = np.array(some)[flat.order]
            state, done = self._backend.embed(flat), 0
            for exit_ in sorted(exits):
                state, done = self._backend.blocks(done, exit_, state), exit_
                found[exit_][lines] = self._backend.look(state, 0, exit_)
            self._told(sum(len(texts[i]) for i in some))
        return found
