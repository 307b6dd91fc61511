"""The reference encoder: plain transformers in float32, run to full depth, every exit read from the hidden states."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from strata.model_store.bundle.bundle import HEADS, lower_case, read_manifest
from strata.model_store.bundle.manifest import MANIFEST_NAME, ExitNorm, Pooling
from strata.model_store.bundle.tensors import TensorFile
from strata.model_store.encoding.forward import Lanes, MicroBatch
from strata.model_store.encoding.precision import arithmetic
from strata.model_store.encoding.quiet import no_other_bars
from strata.model_store.encoding.tokens import tokenize

Vectors = npt.NDArray[np.float32]

_BATCH_TOKENS = {"cpu": 2048, "cuda": 65536}


class ReferenceEncoder:
    """A model folder as slow and plain code reads it. With a manifest the folder says its own exits, norm and pooling;
    without one (an ordinary sentence-transformers folder) every layer is an exit, read without a norm.

    An exit's vector: ``exit`` blocks -> final norm where the model says so -> pooling -> the exit's head, if any.
    """

    def __init__(self, folder: Path, device: torch.device | None = None) -> None:
        # here: seconds of import that `--help` should not wait for
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        log: Any = logging
        log.set_verbosity_error()  # a report of the pooler's missing weights, which no exit uses
        no_other_bars()

        self.device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        self.model = model.to(self.device).eval()
        self.layers = int(self.model.config.num_hidden_layers)
        self.dim = int(self.model.config.hidden_size)
        self.exits: tuple[int, ...] = tuple(range(1, self.layers + 1))
        self.exit_norm: ExitNorm = "none"
        self.pooling: Pooling = _pooling(folder)
        self.prompts: Mapping[str, str] = {}
        self.prompt = ""  # before texts that are for nothing in particular
        self.max_tokens = min(int(self.tokenizer.model_max_length), int(self.model.config.max_position_embeddings))
        self._heads: dict[int, dict[str, Tensor]] = {}
        if (folder / MANIFEST_NAME).exists():
            manifest = read_manifest(folder)
            self.exits, self.exit_norm, self.pooling = manifest.exits, manifest.exit_norm, manifest.pooling
            self.prompts, self.max_tokens = manifest.prompts, manifest.max_tokens
            self.dim = manifest.full_dim
            if manifest.lowercase:
                lower_case(self.tokenizer.backend_tokenizer)
            self.prompt = manifest.prompts.get(manifest.default_prompt or "", "")
        if (folder / HEADS).exists():
            self._load_heads(TensorFile(folder / HEADS))

    def encode(
        self,
        texts: Sequence[str],
        exits: Sequence[int] = (),
        progress: str | None = None,
        precision: str = "fp32",
        told: Callable[[int], object] = lambda characters: None,
    ) -> dict[int, Vectors]:
        """Vectors [texts, full dim] by exit, neither cut nor normalised. ``progress`` labels a bar, None shows none.

        ``precision``: "fp32", or "bf16" for products in bfloat16. ``told`` hears the characters of texts as they are
        done. Exit 0 is the embedding layer through its own head.
        """
        wanted = tuple(exits) or self.exits
        rows = tokenize(self.tokenizer, texts, self.max_tokens)
        lanes = Lanes(len(os.sched_getaffinity(0)) if self.device.type == "cpu" else 1, self.device, precision)
        batches = lanes.micro_batches(rows, int(self.tokenizer.pad_token_id or 0), _BATCH_TOKENS[self.device.type])
        found: dict[int, Vectors] = {}
        with tqdm(total=len(rows), desc=progress, unit="text", disable=progress is None) as bar:

            def run(batch: MicroBatch) -> dict[int, Vectors]:
                with arithmetic(precision, self.device):
                    vectors = self._forward(batch.features, wanted)
                bar.update(len(batch.rows))
                told(sum(len(texts[i]) for i in batch.rows))
                return vectors

            for batch, made in zip(batches, lanes.map(run, batches), strict=True):
                for layer, vectors in made.items():
                    if layer not in found:
                        found[layer] = np.empty((len(rows), vectors.shape[1]), np.float32)
                    found[layer][batch.rows] = vectors
        lanes.close()
        return found

    @torch.no_grad()
    def _forward(self, features: dict[str, Tensor], exits: Sequence[int]) -> dict[int, Vectors]:
        output = self.model(**features, output_hidden_states=True)
        vectors = {}
        for layer in exits:
            state: Tensor = output.last_hidden_state if layer == self.layers else output.hidden_states[layer]
            if 0 < layer < self.layers and self.exit_norm == "final":
                state = self.model.final_norm(state)
            pooled = self._pool(state, features["attention_mask"])
            if layer in self._heads:
                pooled = _headed(pooled, state, features["attention_mask"], self._heads[layer])
            vectors[layer] = pooled.float().cpu().numpy()
        return vectors

    def _pool(self, state: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "cls":
            return state[:, 0]
        kept = mask[..., None].to(state.dtype)
        return (state * kept).sum(1) / kept.sum(1)

    def _load_heads(self, file: TensorFile) -> None:
        for name in file.names():
            _, layer, part = name.split(".")
            self._heads.setdefault(int(layer), {})[part] = torch.tensor(file.float32(name)).to(self.device)


def _headed(pooled: Tensor, state: Tensor, mask: Tensor, head: Mapping[str, Tensor]) -> Tensor:
    """Through a head: of the pooled vectors [rows, hidden], or of each query's own pooling of the states, joined."""
    if "queries" in head:
        hidden = mask[:, None] == 0
        shares = (head["queries"] @ state.transpose(1, 2)).masked_fill(hidden, -torch.inf).softmax(-1)
        pooled = (shares @ state).flatten(1)
    return pooled @ head["weight"].T + head["bias"]


def unit(vectors: Vectors, dim: int) -> Vectors:
    """Vectors [n, full] cut to ``dim`` and brought to unit length (a zero vector stays zero)."""
    cut = vectors[:, :dim]
    return np.asarray(cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12), np.float32)


def _pooling(folder: Path) -> Pooling:
    """Pooling of a sentence-transformers folder, in either generation of its config; mean where it says nothing."""
    file = folder / "1_Pooling" / "config.json"
    if not file.exists():
        return "mean"
    config = json.loads(file.read_text(encoding="utf-8"))
    mode = config.get("pooling_mode") or ("cls" if config.get("pooling_mode_cls_token") else "mean")
    if mode not in ("mean", "cls"):
        raise ValueError(f"{file}: pooling {mode!r} is not one this measures")
    return "cls" if mode == "cls" else "mean"
