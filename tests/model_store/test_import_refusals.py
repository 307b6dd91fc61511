"""What cannot be served, or trusted, is refused with a reason; nothing runs and nothing is left behind."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from strata.model_store.importing import Overrides, RefusedError, import_model
from strata.model_store.importing.importer import check_importable
from strata.model_store.profiling.encoders import SourceEncoder
from strata.model_store.training.trainer import load_model
from tests.model_store.folders import Tensors, edit_json, edit_tensors
from tests.tiny_models import TinyFamily, tiny_sentence_model, write_json

_TENSOR = "encoder.layer.1.attention.self.query.weight"


def _config(**fields: object) -> Callable[[Path], None]:
    return lambda source: edit_json(source / "config.json", **fields)


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda source: (source / name).write_bytes(content)


def _tensors(change: Callable[[Tensors], Tensors]) -> Callable[[Path], None]:
    return lambda source: edit_tensors(source / "model.safetensors", change)


def _with_value(value: float) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        tensors[_TENSOR][3, 5] = value
        return tensors

    return change


def _modules(*kinds: str) -> Callable[[Path], None]:
    paths = ("", "1_Pooling", "2_X", "3_X")
    listed = [{"idx": i, "name": str(i), "path": paths[i], "type": f"a.b.{kind}"} for i, kind in enumerate(kinds)]
    return lambda source: write_json(source / "modules.json", listed)


def _link(name: str, *, inside: bool = False) -> Callable[[Path], None]:
    def spoil(source: Path) -> None:
        target = source / "kept" if inside else source.parent / "outside"
        target.mkdir(exist_ok=True)
        (source / name).rename(target / "file")
        (source / name).symlink_to(target / "file")

    return spoil


def _modules_elsewhere(source: Path) -> None:
    outside = source.parent / "outside"
    write_json(outside / "config.json", {"pooling_mode": "mean"})
    _modules("Transformer", "Pooling")(source)
    modules = json.loads((source / "modules.json").read_text())
    modules[1]["path"] = "../outside"
    write_json(source / "modules.json", modules)


def _shard_elsewhere(source: Path) -> None:
    (source / "model.safetensors").rename(source.parent / "weights.safetensors")
    write_json(source / "model.safetensors.index.json", {"weight_map": {_TENSOR: "../weights.safetensors"}})


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        # What the encoder is.
        (_config(model_type="llama"), "model_type 'llama' is not supported"),
        (_config(model_type=["bert"]), "model_type"),
        (_config(position_embedding_type="relative_key"), "position_embedding_type 'relative_key' is not supported"),
        (_config(hidden_act="silu"), "hidden_act 'silu' is not supported"),
        (_config(is_decoder=True), "is_decoder is set"),
        (_config(num_hidden_layers=None), "num_hidden_layers is missing"),
        (_config(num_hidden_layers=10**9), "config.json: layers"),
        (_config(hidden_size="huge"), "config.json: hidden_size"),
        (_config(num_hidden_layers="4"), "config.json: layers: Input should be a valid integer"),
        (_config(layer_norm_eps="1e-12"), "config.json: norm_eps: Input should be a valid number"),
        (_config(num_attention_heads=5), "not a multiple of attention_heads"),
        (_config(num_hidden_layers=5), "lack the tensor encoder.layer.4.attention.self.query.weight"),
        (_config(hidden_size=64), r"embeddings.word_embeddings.weight has shape"),
        (_config(vocab_size=60), r"token id \d+ has no row in the word embeddings, which have 60"),
        (_config(layer_norm_eps=float("inf")), "norm_eps|cannot be served"),
        (_config(matryoshka_dimensions="all"), "matryoshka_dimensions 'all' is not a list"),
        (
            _config(matryoshka_dimensions=[8, 64]),
            "config.json: matryoshka_dimensions 8,64: vectors .* 1 to 32",
        ),
        # What comes after it.
        (_modules("Transformer"), "the modules Transformer cannot be served"),
        (_modules("Transformer", "Pooling", "LayerNorm"), "LayerNorm cannot be served"),
        (_modules("Transformer", "Pooling", "Normalize", "Dense"), "cannot be served"),
        (_modules("CLIPModel", "Pooling"), "CLIPModel"),
        (_write("modules.json", b"[]"), "cannot be served"),
        (_write("modules.json", b'{"a": 1}'), "must list modules"),
        (_write("1_Pooling/config.json", b'{"pooling_mode": "max"}'), "pooling 'max' is not supported"),
        (_write("1_Pooling/config.json", b'{"pooling_mode": ["cls", "mean"]}'), "is not supported"),
        (
            _write("1_Pooling/config.json", b'{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}'),
            "is not supported",
        ),
        (_write("1_Pooling/config.json", b'{"pooling_mode": "mean", "include_prompt": false}'), "include_prompt"),
        (_write("config_sentence_transformers.json", b'{"model_type": "SparseEncoder"}'), "no dense vectors"),
        (_write("config_sentence_transformers.json", b'{"prompts": {"query": 7}}'), "prompts must give a text"),
        (_write("sentence_bert_config.json", b'{"max_seq_length": "long"}'), "max_seq_length 'long'"),
        # Files that are not what they seem.
        (_write("config.json", b"{" * 100_000), "config.json: not readable as JSON"),
        (_write("config.json", b" " * (5 << 20)), "config.json: 5242880 bytes"),
        (_write("config.json", b"[]"), "must hold a JSON object"),
        (_write("tokenizer.json", b'{"model": 1}'), "tokenizer.json: cannot be loaded"),
        (lambda source: (source / "tokenizer.json").unlink(), "holds neither tokenizer.json nor a vocabulary"),
        (lambda source: (source / "config.json").unlink(), "holds no config.json"),
        (lambda source: (source / "model.safetensors").unlink(), "holds no model.safetensors"),
        (lambda source: os.truncate(source / "model.safetensors", 5000), "not a sound safetensors file"),
        (_write("model.safetensors", b""), "not a sound safetensors file"),
        (_write("model.safetensors", (2**62).to_bytes(8, "little") + b"{}"), "not a sound safetensors file"),
        (_write("heads.safetensors", b"junk"), "heads.safetensors"),
        # Tensors.
        (_tensors(_with_value(float("nan"))), f"{_TENSOR} holds NaN or infinity"),
        (_tensors(_with_value(float("inf"))), f"{_TENSOR} holds NaN or infinity"),
        (_tensors(lambda t: {**t, _TENSOR: torch.zeros(32, 31)}), rf"{_TENSOR} has shape \(32, 31\)"),
        (_tensors(lambda t: {**t, _TENSOR: t[_TENSOR].double()}), f"{_TENSOR} is F64"),
        (_tensors(lambda t: {k: v for k, v in t.items() if k != _TENSOR}), f"lack the tensor {_TENSOR}"),
        (_tensors(lambda t: {**t, f"bert.{_TENSOR}": t[_TENSOR].clone()}), f"which of them is {_TENSOR} is not clear"),
        # Ways out of the folder.
        (_link("model.safetensors"), "leads out of the model's folder"),
        (_link("config.json"), "leads out of the model's folder"),
        (_link("tokenizer.json"), "leads out of the model's folder"),
        (_modules_elsewhere, "leads out of the model's folder"),
        (_shard_elsewhere, "leads out of the model's folder"),
    ],
)
def test_a_folder_that_cannot_be_served_is_refused_whole(
    source: Path, tmp_path: Path, spoil: Callable[[Path], object], reason: str
) -> None:
    spoil(source)
    store = tmp_path / "store"
    with pytest.raises(RefusedError, match=reason):
        import_model(source, store / "m")
    assert list(store.iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mlp_bias": True}, "mlp_bias is set"),
        ({"norm_bias": True}, "norm_bias is set"),
        ({"attention_bias": True}, "attention_bias is set"),
        ({"layer_types": ["sliding_attention"] * 6}, "layer_types"),
        ({"layer_types": ["full_attention", "full_attention", *["sliding_attention"] * 4]}, "layer_types"),
        ({"rope_parameters": {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4}}}, "type 'yarn'"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "type 'linear'"),
        ({"rope_parameters": [1]}, "wrong type"),
        ({"layer_types": None, "global_attn_every_n_layers": 0}, "global_attn_every_n_layers 0"),
    ],
)
def test_a_modernbert_of_another_kind_is_refused(
    plain_modernbert: Path, tmp_path: Path, fields: dict[str, object], reason: str
) -> None:
    source = tmp_path / "model"
    source.mkdir()
    for path in plain_modernbert.iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    edit_json(source / "config.json", **fields)
    with pytest.raises(RefusedError, match=reason):
        import_model(source, tmp_path / "m", overrides=Overrides(pooling="mean"))


@pytest.mark.parametrize(
    ("family", "file", "fields"),
    [
        ("roberta", "config.json", {"pad_token_id": 0}),
        ("xlm-roberta", "tokenizer_config.json", {"pad_token": "<unk>"}),
        ("mpnet", "tokenizer_config.json", {"pad_token": "<unk>"}),
    ],
)
def test_positions_counted_from_another_padding_are_refused(
    tmp_path: Path, family: TinyFamily, file: str, fields: dict[str, object]
) -> None:
    source = tiny_sentence_model(tmp_path / "model", family, layers=1)
    check_importable(source, 8)
    edit_json(source / file, **fields)
    for refuse in (lambda: import_model(source, tmp_path / "m"), lambda: check_importable(source, 8)):
        with pytest.raises(RefusedError, match=r"positions are counted from the padding id [01], .* pads with <"):
            refuse()


def test_another_padding_is_nothing_to_positions_that_start_at_0(source: Path, tmp_path: Path) -> None:
    edit_json(source / "config.json", pad_token_id=3)
    import_model(source, tmp_path / "m")


def test_a_tokenizer_that_is_refused_is_refused_before_training(source: Path) -> None:
    edit_json(source / "tokenizer_config.json", split_special_tokens=True)
    with pytest.raises(RefusedError, match="split_special_tokens is set"):
        check_importable(source, 8)


def test_a_link_inside_the_folder_is_followed(source: Path, tmp_path: Path) -> None:
    _link("model.safetensors", inside=True)(source)
    import_model(source, tmp_path / "m")
    assert not (tmp_path / "m" / "model.safetensors").is_symlink()


class _Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_pickled_weights_are_refused_unopened(source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").unlink()
    (source / "pytorch_model.bin").write_bytes(pickle.dumps(_Bomb(tmp_path / "ran")))
    with pytest.raises(RefusedError, match=r"pickled \(pytorch_model.bin\).*save_pretrained"):
        import_model(source, tmp_path / "m")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("folder", ["", "2_Dense"])
def test_pickled_weights_are_given_to_no_library(tmp_path: Path, folder: str) -> None:
    """As a base to train or to measure against, or as a teacher."""
    source = tiny_sentence_model(tmp_path / "source", "bert", layers=1, dense=24)
    (source / folder / "model.safetensors").unlink()
    (source / folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Bomb(tmp_path / "ran")))
    with pytest.raises(RefusedError, match=r"pytorch_model.bin: the weights are pickled"):
        SourceEncoder(source, torch.device("cpu"))
    with pytest.raises(RefusedError, match=r"pytorch_model.bin: the weights are pickled"):
        load_model(str(source), torch.device("cpu"))
    assert not (tmp_path / "ran").exists()


def test_code_that_a_folder_brings_is_neither_run_nor_kept(source: Path, tmp_path: Path) -> None:
    code = f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\nclass Model: ...\n"
    (source / "modeling.py").write_text(code)
    edit_json(source / "config.json", auto_map={"AutoModel": "modeling.Model", "AutoConfig": "modeling.Model"})
    edit_json(source / "tokenizer_config.json", auto_map={"AutoTokenizer": ["modeling.Model", None]})
    import_model(source, tmp_path / "m")
    assert not (tmp_path / "ran").exists()
    assert not list((tmp_path / "m").rglob("*.py"))
    for name in ("config.json", "tokenizer_config.json"):
        assert "auto_map" not in (tmp_path / "m" / name).read_text()


def test_modules_of_the_folders_own_are_told_and_never_run(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (source / "custom_st.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\nclass Transformer: ...\n")
    listed = json.loads((source / "modules.json").read_text())
    listed[0]["type"] = "custom_st.Transformer"
    (source / "modules.json").write_text(json.dumps(listed))
    import_model(source, tmp_path / "m")
    assert "code of the folder's own (custom_st.Transformer), which is not run" in caplog.text
    refused = r"custom_st.Transformer\), which is never run"
    with pytest.raises(RefusedError, match=refused):
        SourceEncoder(source, torch.device("cpu"))
    with pytest.raises(RefusedError, match=refused):
        load_model(str(source), torch.device("cpu"))
    assert not (tmp_path / "ran").exists()


def test_a_dense_modules_file_is_told_by_its_folder(tmp_path: Path) -> None:
    source = tiny_sentence_model(tmp_path / "source", "bert", layers=1, dense=24)
    edit_json(source / "2_Dense" / "config.json", out_features=48)
    with pytest.raises(RefusedError, match=r"^2_Dense/model.safetensors: linear.weight has shape \(24, 32\)"):
        import_model(source, tmp_path / "m")


def test_an_existing_destination_is_kept_unless_replaced(source: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = import_model(source, store / "m")
    with pytest.raises(RefusedError, match="exists already; --force replaces it"):
        import_model(source, store / "m", overrides=Overrides(exits=(2,)))
    second = import_model(source, store / "m", overrides=Overrides(exits=(2,)), replace=True)
    assert (first.exits, second.exits) == ((4,), (2, 4))
    (source / "model.safetensors").unlink()
    before = (store / "m" / "manifest.json").read_bytes()
    with pytest.raises(RefusedError):
        import_model(source, store / "m", replace=True)
    assert (store / "m" / "manifest.json").read_bytes() == before
    assert [path.name for path in store.iterdir()] == ["m"]


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="not a folder"):
        import_model(tmp_path / "nothing", tmp_path / "m")


def test_names_that_are_no_bundle_names_are_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="name"):
        import_model(source, tmp_path / "m", overrides=Overrides(name="a b/c"))
