"""Looking at model folders, and spoiling them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from strata.model_store.bundle.bundle import read_manifest, record_files
from strata.model_store.bundle.manifest import Manifest
from tests.tiny_models import write_json


def sentence_vectors(folder: Path, texts: Sequence[str], *, pooling: str | None = None) -> np.ndarray:
    """What sentence-transformers makes of the texts, [texts, dim]; ``pooling`` for folders that do not say."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    if pooling is None:
        return SentenceTransformer(str(folder), device="cpu").encode(list(texts))
    transformer = Transformer(str(folder))
    pooler = Pooling(transformer.get_embedding_dimension(), pooling_mode=pooling)
    return SentenceTransformer(modules=[transformer, pooler], device="cpu").encode(list(texts))


def edit_json(path: Path, **fields: object) -> None:
    """Set fields of a JSON object; None removes one."""
    value = {**json.loads(path.read_text()), **fields}
    write_json(path, {key: content for key, content in value.items() if content is not None})


Tensors = dict[str, torch.Tensor]  # of a safetensors file, by name


def edit_tensors(path: Path, change: Callable[[Tensors], Tensors]) -> None:
    """Replace the tensors of a safetensors file by ``change`` of them."""
    tensors = change(load_file(path))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def resealed(bundle: Path) -> Manifest:
    """The manifest after its checksums were brought up to date, so that only the contents are at fault."""
    records = {name: record.model_dump() for name, record in record_files(bundle).items()}
    edit_json(bundle / "manifest.json", files=records)
    return read_manifest(bundle)
