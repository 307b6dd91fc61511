"""The reference every vector is held to: plain transformers in fp32, run to an exit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoModel

from strata.app.engine.batch import TokenIds, Vector
from strata.model_store.bundle.bundle import HEADS
from strata.model_store.bundle.manifest import Manifest


class Reference:
    """Pooled, cut and normalised vectors of one bundle at any exit, one text at a time."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self._model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        self._manifest = manifest
        self._heads = load_file(folder / HEADS) if manifest.heads else {}

    @torch.no_grad()
    def vectors(self, tokens: TokenIds, exits: Sequence[int]) -> dict[int, Vector]:
        """The normalised full-length vector at each exit."""
        ids = torch.tensor(tokens.astype(np.int64))[None]
        out = self._model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
        found = {}
        last = self._manifest.architecture.layers
        for exit_ in exits:
            hidden = out.last_hidden_state if exit_ == last else out.hidden_states[exit_]
            if 0 < exit_ < last and self._manifest.exit_norm == "final":
                hidden = self._model.final_norm(hidden)
            pooled = (hidden[0, 0] if self._manifest.pooling == "cls" else hidden[0].mean(0)).numpy()
            if f"heads.{exit_}.queries" in self._heads:
                queries = torch.tensor(self._heads[f"heads.{exit_}.queries"].astype(np.float32))
                pooled = torch.cat([(hidden[0] @ q).softmax(0) @ hidden[0] for q in queries]).numpy()
            if f"heads.{exit_}.weight" in self._heads:
                weight = self._heads[f"heads.{exit_}.weight"].astype(np.float32)
                pooled = weight @ pooled + self._heads[f"heads.{exit_}.bias"].astype(np.float32)
            found[exit_] = pooled / np.linalg.norm(pooled)
        return found


def cut(vector: Vector, dim: int) -> Vector:
    """First ``dim`` elements, normalised again."""
    return vector[:dim] / np.linalg.norm(vector[:dim])
