"""The published 2D models load by their family: tiny models with the layout, naming and depth of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from strata.model_store.bundle.bundle import Bundle
from strata.model_store.bundle.manifest import ExitNorm, Manifest, Pooling
from strata.model_store.importing import Overrides, RefusedError, import_model
from tests.model_store.folders import edit_json, edit_tensors, sentence_vectors
from tests.tiny_models import TinyFamily, texts, tiny_encoder, tiny_sentence_model

_TEXTS = texts(4)
_PAIRS = Overrides(exits=(2, 4, 6, 8, 10, 12), dims=(4, 8, 16, 32, 48))


def test_mxbai_embed_2d_large(tmp_path: Path) -> None:
    """mixedbread-ai/mxbai-embed-2d-large-v1: BERT of 24 layers, cls, float16, old files, a prompt for queries."""
    source = tiny_sentence_model(
        tmp_path / "mxbai",
        "bert",
        layers=24,
        pooling="cls",
        normalize=False,
        generation="old",
        dtype=torch.float16,
        prompts={"query": "Represent this sentence for searching relevant passages: "},
    )
    exits = tuple(range(1, 25))
    manifest = _checked(source, tmp_path / "m", Overrides(exits=exits, dims=(8, 16)))
    assert (manifest.exits, manifest.dims, manifest.pooling) == (exits, (8, 16, 32), "cls")


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_starbucks(tmp_path: Path, pooling: Pooling) -> None:
    """ielabgroup/Starbucks-msmarco and Starbucks_STS: BERT of 12 layers, no modules.json, names of a masked LM."""
    source = tiny_encoder(tmp_path / "Starbucks-msmarco", "bert", layers=12, hidden=48)
    edit_json(source / "config.json", architectures=["BertForMaskedLM"])
    heads = {"cls.predictions.bias": torch.zeros(9), "cls.predictions.transform.dense.weight": torch.zeros(48, 48)}
    edit_tensors(
        source / "model.safetensors",
        lambda tensors: {**{f"bert.{k}": v for k, v in tensors.items() if "pooler" not in k}, **heads},
    )
    with pytest.raises(RefusedError, match=r"no modules.json to say how vectors are pooled; give --pooling"):
        import_model(source, tmp_path / "m", overrides=_PAIRS)
    overrides = Overrides(pooling=pooling, exits=_PAIRS.exits, dims=_PAIRS.dims)
    manifest = import_model(source, tmp_path / "m", overrides=overrides)
    assert (manifest.exits, manifest.dims) == ((2, 4, 6, 8, 10, 12), (4, 8, 16, 32, 48))
    assert manifest.name == "Starbucks-msmarco"
    mine, theirs = sentence_vectors(tmp_path / "m", _TEXTS), sentence_vectors(source, _TEXTS, pooling=pooling)
    np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("exit_norm", ["none", "final"])
def test_mmbert_embed_2d(tmp_path: Path, exit_norm: ExitNorm) -> None:
    """llm-semantic-router/mmbert-embed-32k-2d-matryoshka: ModernBERT of 22 layers, mmBERT's config."""
    source = tiny_sentence_model(tmp_path / "mmbert", "modernbert", layers=22, hidden=64, max_position_embeddings=32768)
    edit_json(
        source / "config.json",
        position_embedding_type="sans_pos",
        layer_types=None,
        rope_parameters=None,
        global_attn_every_n_layers=3,
        global_rope_theta=160_000,
        local_rope_theta=160_000,
        matryoshka_dimensions=[8, 16, 32, 64],
    )
    edit_tensors(source / "model.safetensors", lambda tensors: {f"model.{k}": v for k, v in tensors.items()})
    manifest = _checked(source, tmp_path / "m", Overrides(exits=(3, 6, 11, 22), exit_norm=exit_norm, max_tokens=32768))
    assert (manifest.exits, manifest.dims) == ((3, 6, 11, 22), (8, 16, 32, 64))
    assert (manifest.exit_norm, manifest.max_tokens) == (exit_norm, 32768)
    assert manifest.architecture.rotary is not None
    assert manifest.architecture.rotary.global_theta == manifest.architecture.rotary.local_theta == 160_000


@pytest.mark.parametrize(
    ("family", "layers", "exits"),
    [
        ("mpnet", 12, tuple(range(1, 13))),  # tomaarsen/mpnet-base-nli-adaptive-layer
        ("roberta", 6, tuple(range(1, 7))),  # tomaarsen/distilroberta-base-nli-adaptive-layer
        ("distilbert", 6, tuple(range(1, 7))),  # tomaarsen/distilbert-base-uncased-sts-2d-matryoshka
    ],
)
def test_models_of_the_sentence_transformers_examples(
    tmp_path: Path, family: TinyFamily, layers: int, exits: tuple[int, ...]
) -> None:
    """Old files, mean pooling, no Normalize, names without a prefix; the length only in the tokenizer's config."""
    source = tiny_sentence_model(tmp_path / family, family, layers=layers, normalize=False, generation="old")
    edit_json(source / "sentence_bert_config.json", max_seq_length=None)
    manifest = _checked(source, tmp_path / "m", Overrides(exits=exits, dims=(8, 16, 32)))
    assert (manifest.exits, manifest.dims, manifest.elastic) == (exits, (8, 16, 32), True)


def _checked(source: Path, destination: Path, overrides: Overrides) -> Manifest:
    manifest = import_model(source, destination, overrides=overrides)
    assert Bundle.open(destination).manifest == manifest
    np.testing.assert_array_equal(sentence_vectors(destination, _TEXTS), sentence_vectors(source, _TEXTS))
    return manifest
