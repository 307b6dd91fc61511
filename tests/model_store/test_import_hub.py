"""What people bring from a model hub: it goes by the name they know, or the refusal says what it is and the way on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from strata.app.cli import main
from strata.model_store.bundle import registry
from strata.model_store.importing import RefusedError, import_model
from strata.model_store.importing.importer import check_importable
from strata.model_store.profiling.encoders import SourceEncoder
from strata.model_store.training.trainer import load_model
from tests.model_store.folders import edit_json, edit_tensors
from tests.tiny_models import write_json

HASH = "c17ab0d7ef1e0cc0a4d2c9b5d8e5d0a1f0b6e3a9"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 133466304\n"


@pytest.fixture
def cached(bert_source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A snapshot in a hub cache, made of links into blobs as the hub's client makes it."""
    repository = tmp_path / "hub" / "models--some-lab--tiny-bert-v2"
    snapshot = repository / "snapshots" / HASH
    for path in (path for path in bert_source.rglob("*") if path.is_file()):
        name = path.relative_to(bert_source)
        blob = repository / "blobs" / str(name).replace("/", "-")
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, blob)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(HASH)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("STRATA_MODEL_STORE", str(tmp_path / "store"))
    return snapshot


def test_a_snapshot_goes_by_the_name_people_know(
    cached: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "add", str(cached)]) == 0
    assert "Added tiny-bert-v2 " in capsys.readouterr().out
    (tmp_path / "link").symlink_to(cached)
    for place in (cached.parents[1], tmp_path / "link"):
        manifest = import_model(place, tmp_path / "made" / place.name)
        assert (manifest.name, manifest.provenance.source) == ("tiny-bert-v2", "some-lab/tiny-bert-v2")
    place, cpu = cached.parents[1], torch.device("cpu")  # to train and to measure against, too
    assert load_model(str(place), cpu).get_embedding_dimension() == SourceEncoder(place, cpu).dim


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("some-lab/tiny-bert-v2", "The hub cache of this machine holds a model of that name; name it: {cached}"),
        ("https://huggingface.co/some-lab/tiny-bert-v2/tree/main", "name it: {cached}"),
        ("some-lab/other", "hf download some-lab/other --local-dir other"),
        ("hf://some-lab/other", "hf download some-lab/other --local-dir other"),
        ("{cached}/config.json", "is a file; name the folder that holds"),
        ("{cached}-no", "not a folder; name the one that holds"),
    ],
)  # fmt: skip
def test_a_hubs_name_is_told_from_a_folder(
    cached: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    word: str,
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    word, told = word.replace("{cached}", str(cached)), told.replace("{cached}", str(cached))
    assert main(["models", "add", word]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Not added: " + str(Path(word)))
    assert told in error
    assert main(["train", word, str(tmp_path / "out"), "--text", "x"]) == 1
    assert told in capsys.readouterr().err


def test_serving_a_hubs_name_says_the_way_on(cached: Path) -> None:
    with pytest.raises(registry.NotFoundError, match=r"no model 'some-lab/other'; .*hf download some-lab/other"):
        registry.find("some-lab/other")


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "1_Pooling/config.json"])
def test_a_pointer_of_git_lfs_is_called_one(source: Path, tmp_path: Path, name: str) -> None:
    (source / name).write_text(POINTER)
    with pytest.raises(RefusedError, match=f"{name}: is a Git LFS pointer, not the file itself; .*git lfs pull"):
        import_model(source, tmp_path / "m")


def test_a_pointer_in_a_bundle_is_called_one(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bundle / "model.safetensors").write_text(POINTER)
    assert main(["models", "verify", str(bundle)]) == 1
    assert "model.safetensors: is a Git LFS pointer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"model_type": "qwen3"}, "model_type 'qwen3' is not supported: it is a decoder, as Qwen3-Embedding"),
        ({"model_type": "mistral"}, "is a decoder, as Qwen3-Embedding and e5-mistral are"),
        ({"model_type": "gemma3_text"}, "is a Gemma 3, as EmbeddingGemma is"),
        ({"model_type": "nomic_bert", "auto_map": {"AutoModel": "m.NomicBert"}}, "nomic-embed's own BERT"),
        ({"model_type": "new", "auto_map": {"AutoModel": "m.New"}}, "auto_map: m.New.*is never run"),
        ({"position_embedding_type": "alibi", "auto_map": {"AutoModel": "jina--m.JinaBert"}}, "'alibi'.*is never run"),
        ({"position_embedding_type": "rotary", "auto_map": {"AutoModel": "m.X"}}, "'rotary'.*m.X.*never run"),
        ({"model_type": "t5"}, "an encoder with a decoder beside it"),
        ({"model_type": "clip"}, "a model of pictures and text"),
        ({"model_type": "electra"}, "model_type 'electra' is not supported. Use an encoder of a family that is"),
    ],
)  # fmt: skip
def test_a_refusal_says_what_the_model_is(source: Path, tmp_path: Path, fields: dict[str, object], told: str) -> None:
    """Before anything else in the folder is found fault with: decoders pool their last token, Gemma has two Denses."""
    edit_json(source / "config.json", **fields)
    write_json(
        source / "1_Pooling" / "config.json", {"pooling_mode": "lasttoken" if "model_type" in fields else "mean"}
    )
    for refuse in (lambda: import_model(source, tmp_path / "m"), lambda: check_importable(source, 8)):
        with pytest.raises(RefusedError, match=told):
            refuse()


def test_code_for_a_known_shape_is_said_to_be_left_out(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit_json(source / "config.json", auto_map={"AutoModel": "modeling.Model"})
    import_model(source, tmp_path / "m")
    assert "names code for the model (auto_map), which is not run: it is taken as a plain bert" in caplog.text
    more = {"encoder.layer.1.mlp.gate.weight": torch.zeros(2, 2)}
    edit_tensors(source / "model.safetensors", lambda tensors: {**tensors, **more})
    with pytest.raises(RefusedError, match=r"hold encoder.layer.1.mlp.gate.weight, which no plain bert has; code that"):
        import_model(source, tmp_path / "n")


def test_an_adapter_and_other_formats_are_called_what_they_are(source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").rename(source / "model.onnx")
    with pytest.raises(RefusedError, match=r"holds no model.safetensors; it holds model.onnx, but weights must be"):
        import_model(source, tmp_path / "m")
    (tmp_path / "lora").mkdir()
    write_json(tmp_path / "lora" / "adapter_config.json", {"peft_type": "LORA"})
    with pytest.raises(RefusedError, match=r"is an adapter \(LoRA\).*merge_and_unload"):
        import_model(tmp_path / "lora", tmp_path / "m")
