"""What a bundle says of its model: taken from the folder, or from whoever imports it, and never made up."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

from strata.model_store.bundle.prompts import prompt_for, prompt_text
from strata.model_store.importing import Overrides, RefusedError, import_model
from strata.model_store.importing.importer import check_importable
from tests.model_store.folders import edit_json, sentence_vectors
from tests.tiny_models import texts, tiny_sentence_model, write_json

_TEXTS = texts(4)


def test_without_exits_only_full_depth_is_trained(source: Path, tmp_path: Path) -> None:
    manifest = import_model(source, tmp_path / "m")
    assert (manifest.exits, manifest.dims, manifest.elastic) == ((4,), (32,), False)


def test_full_depth_and_full_length_are_always_among_the_trained(source: Path, tmp_path: Path) -> None:
    manifest = import_model(source, tmp_path / "m", overrides=Overrides(exits=(3, 1), dims=(16, 8)))
    assert (manifest.exits, manifest.dims) == ((1, 3, 4), (8, 16, 32))


def test_matryoshka_dimensions_are_the_default_dims(source: Path, tmp_path: Path) -> None:
    edit_json(source / "config.json", matryoshka_dimensions=[16, 8])
    assert import_model(source, tmp_path / "a").dims == (8, 16, 32)
    assert import_model(source, tmp_path / "b", overrides=Overrides(dims=(4,))).dims == (4, 32)


def test_truncate_dim_is_only_a_hint(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit_json(source / "config_sentence_transformers.json", truncate_dim=16)
    with caplog.at_level(logging.WARNING):
        assert import_model(source, tmp_path / "m").dims == (32,)
    assert "--dims" in caplog.text
    assert sentence_vectors(tmp_path / "m", _TEXTS).shape[1] == 16  # there, the copy stays what it was


def test_exit_norm_must_be_said_for_early_exits_of_a_pre_norm_encoder(plain_modernbert: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="--exit-norm"):
        import_model(plain_modernbert, tmp_path / "m", overrides=Overrides(pooling="mean", exits=(2, 6)))
    for norm in ("none", "final"):
        overrides = Overrides(pooling="mean", exits=(2, 6), exit_norm=norm)
        assert import_model(plain_modernbert, tmp_path / norm, overrides=overrides).exit_norm == norm
    assert import_model(plain_modernbert, tmp_path / "m", overrides=Overrides(pooling="mean")).exits == (6,)


def test_a_post_norm_encoder_has_no_final_norm(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="bert has no final norm"):
        import_model(source, tmp_path / "m", overrides=Overrides(exit_norm="final"))


@pytest.mark.parametrize("overrides", [Overrides(exits=(5,)), Overrides(exits=(0,)), Overrides(exits=(-1,))])
def test_exits_outside_the_encoder_are_refused(source: Path, tmp_path: Path, overrides: Overrides) -> None:
    with pytest.raises(RefusedError, match=r"--exits -?\d: this encoder has layers 1 to 4"):
        import_model(source, tmp_path / "m", overrides=overrides)


@pytest.mark.parametrize("dims", [(33,), (0,)])
def test_dims_outside_the_vector_are_refused(source: Path, tmp_path: Path, dims: tuple[int, ...]) -> None:
    with pytest.raises(RefusedError, match=r"--dims \d+: vectors of this model have 1 to 32 elements"):
        import_model(source, tmp_path / "m", overrides=Overrides(dims=dims))


def test_the_longest_input(source: Path, tmp_path: Path) -> None:
    assert import_model(source, tmp_path / "a").max_tokens == 160  # sentence_bert_config or tokenizer_config
    assert import_model(source, tmp_path / "b", overrides=Overrides(max_tokens=512)).max_tokens == 512
    with pytest.raises(RefusedError, match="--max-tokens 513: this encoder has 512 positions"):
        import_model(source, tmp_path / "c", overrides=Overrides(max_tokens=513))
    with pytest.raises(RefusedError, match=r"an input of 2 tokens holds nothing of a text.* --max-tokens 3 or more"):
        import_model(source, tmp_path / "c", overrides=Overrides(max_tokens=2))
    with pytest.raises(RefusedError, match="an input of 1 tokens holds nothing of a text"):
        check_importable(source, 1)  # before training
    edit_json(source / "tokenizer_config.json", model_max_length=10**30)  # how transformers says "no limit"
    assert import_model(source, tmp_path / "d").max_tokens == 512
    edit_json(source / "sentence_bert_config.json", max_seq_length=64)
    assert import_model(source, tmp_path / "e").max_tokens == 64


def test_lower_casing_is_recorded(source: Path, tmp_path: Path) -> None:
    assert import_model(source, tmp_path / "a").lowercase is False
    edit_json(source / "sentence_bert_config.json", do_lower_case=True)
    assert import_model(source, tmp_path / "b").lowercase is True


def test_prompts_and_the_default_prompt(source: Path, tmp_path: Path) -> None:
    edit_json(source / "config_sentence_transformers.json", default_prompt_name="query")
    manifest = import_model(source, tmp_path / "m")
    assert manifest.prompts == {"query": "find: ", "document": ""}
    assert manifest.default_prompt == "query"
    np.testing.assert_array_equal(sentence_vectors(tmp_path / "m", _TEXTS), sentence_vectors(source, _TEXTS))
    edit_json(source / "config_sentence_transformers.json", default_prompt_name="nope")
    with pytest.raises(RefusedError, match="default_prompt 'nope' is not among the prompts"):
        import_model(source, tmp_path / "n")


@pytest.mark.parametrize(
    ("prompts", "query", "document"),
    [
        ({}, None, None),
        ({"query": "Q: ", "passage": "P: "}, "query", "passage"),
        ({"query": "Q: ", "document": "", "passage": "P: "}, "query", "passage"),  # as it is saved again
        ({"query": "", "document": "", "search_query": "Q: ", "corpus": "D: "}, "search_query", "corpus"),
        ({"query": ""}, "query", None),  # no prompt, and not the default one either
        ({"document": "", "passage": ""}, None, "document"),
    ],
)  # fmt: skip
def test_the_prompt_for_a_role(prompts: dict[str, str], query: str | None, document: str | None) -> None:
    assert (prompt_for(prompts, "query"), prompt_for(prompts, "document")) == (query, document)
    assert prompt_for(prompts, None) is None


def test_the_default_prompt_is_for_what_has_none_of_its_own() -> None:
    prompts = {"title": "T: ", "query": ""}
    assert [prompt_text(prompts, "title", role) for role in ("query", "document", None)] == ["", "T: ", "T: "]
    assert prompt_text(prompts, None, "document") == ""


def test_name_licence_and_origin(source: Path, tmp_path: Path) -> None:
    provenance = import_model(source, tmp_path / "a").provenance
    assert (provenance.source, provenance.licence) == ("tiny-bert", "unknown")
    (source / "README.md").write_text("---\ntags: [x]\nlicense: apache-2.0\n---\n# Tiny\nlicense: mit\n")
    edit_json(source / "config.json", _name_or_path="someone/tiny-bert")
    manifest = import_model(source, tmp_path / "b")
    assert (manifest.provenance.source, manifest.provenance.licence) == ("someone/tiny-bert", "apache-2.0")
    assert (tmp_path / "b" / "README.md").exists()
    edit_json(source / "config.json", _name_or_path="/home/someone/tiny-bert")
    assert import_model(source, tmp_path / "c").provenance.source == "tiny-bert"
    said = Overrides(name="mine", licence="MIT", source="me/mine")
    manifest = import_model(source, tmp_path / "d", overrides=said)
    assert (manifest.name, manifest.provenance.licence, manifest.provenance.source) == ("mine", "MIT", "me/mine")


def test_pooling_can_be_overridden(source: Path, tmp_path: Path) -> None:
    assert import_model(source, tmp_path / "m", overrides=Overrides(pooling="cls")).pooling == "cls"
    plain = sentence_vectors(source, _TEXTS, pooling="cls")
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    np.testing.assert_allclose(sentence_vectors(tmp_path / "m", _TEXTS), plain, atol=1e-6)


def test_a_pooling_with_no_mode_set_is_mean(source: Path, tmp_path: Path) -> None:
    write_json(source / "1_Pooling" / "config.json", {"word_embedding_dimension": 32})
    assert import_model(source, tmp_path / "m").pooling == "mean"


def test_a_pooling_that_is_named_and_missing_is_not_guessed(source: Path, tmp_path: Path) -> None:
    (source / "1_Pooling" / "config.json").unlink()
    with pytest.raises(RefusedError, match=r"1_Pooling/config\.json: is missing"):
        import_model(source, tmp_path / "m")


@pytest.mark.parametrize("size", [16, 32])
def test_a_dense_module_becomes_the_head_of_the_last_layer(tmp_path: Path, size: int) -> None:
    source = tiny_sentence_model(tmp_path / "model", "bert", dense=size)
    manifest = import_model(source, tmp_path / "m", overrides=Overrides(dims=(8,)))
    assert (manifest.heads, manifest.full_dim, manifest.dims) == ((4,), size, (8, size))
    head = load_file(tmp_path / "m" / "heads.safetensors")
    dense = load_file(source / "2_Dense" / "model.safetensors")
    np.testing.assert_array_equal(head["heads.4.weight"], dense["linear.weight"])
    np.testing.assert_array_equal(head["heads.4.bias"], dense["linear.bias"])
    np.testing.assert_array_equal(sentence_vectors(tmp_path / "m", _TEXTS), sentence_vectors(source, _TEXTS))
    with pytest.raises(RefusedError, match="a Dense module belongs to the last layer"):
        import_model(source, tmp_path / "n", overrides=Overrides(exits=(2, 4)))


def test_a_dense_module_that_is_not_affine_is_refused(tmp_path: Path) -> None:
    source = tiny_sentence_model(tmp_path / "model", "bert", dense=16)
    edit_json(source / "2_Dense" / "config.json", activation_function="torch.nn.modules.activation.Tanh")
    with pytest.raises(RefusedError, match="activation Tanh is not supported"):
        import_model(source, tmp_path / "m")
    edit_json(source / "2_Dense" / "config.json", activation_function=None)  # what is absent is Tanh as well
    with pytest.raises(RefusedError, match="activation Tanh is not supported"):
        import_model(source, tmp_path / "m")


def test_heads_beside_the_weights_are_taken_over(source: Path, tmp_path: Path) -> None:
    heads = {f"heads.{e}.weight": torch.eye(32) for e in (1, 2)} | {f"heads.{e}.bias": torch.ones(32) for e in (1, 2)}
    save_file(heads, source / "heads.safetensors")
    manifest = import_model(source, tmp_path / "m", overrides=Overrides(exits=(1, 2)))
    assert (manifest.heads, manifest.head_size) == ((1, 2), None)
    assert "heads.safetensors" in manifest.files
    queries = torch.ones(2, 32)
    for wrong in (
        {"heads.1.weight": torch.ones(31, 32)},
        {"heads.1.queries": queries},  # of one head alone
        {"heads.1.queries": queries, "heads.2.queries": queries.clone()},  # and maps too narrow for them
    ):
        save_file({**heads, **wrong}, source / "heads.safetensors")
        with pytest.raises(RefusedError, match=r"heads.safetensors"):
            import_model(source, tmp_path / "n", overrides=Overrides(exits=(1, 2)))


def test_a_bundle_is_copied_with_all_it_says(bundle: Path, tmp_path: Path) -> None:
    original = import_model(bundle, tmp_path / "a")
    renamed = import_model(bundle, tmp_path / "b", overrides=Overrides(name="other"))
    assert (original.name, renamed.name) == ("tiny-bert", "other")
    assert original.exits == renamed.exits == (2, 4)
    assert original.revision == renamed.revision
    with pytest.raises(RefusedError, match="its manifest says it all"):
        import_model(bundle, tmp_path / "c", overrides=Overrides(exits=(1, 4)))
    (bundle / "tokenizer.json").write_text("{}")
    with pytest.raises(RefusedError, match=r"tokenizer.json: .* the file is damaged"):
        import_model(bundle, tmp_path / "c")
