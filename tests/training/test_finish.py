"""The finished folder: sentence-transformers and Strata read the same model from it."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from strata.model_store.bundle.bundle import Bundle
from strata.model_store.encoding import precision
from strata.model_store.encoding.reference import ReferenceEncoder, unit
from strata.model_store.importing.facts import licence_of
from strata.model_store.profiling.held_out import is_held_out
from strata.model_store.training import command
from strata.model_store.training.checkpoint import CHECKPOINT
from strata.model_store.training.command import add_arguments, run
from strata.model_store.training.recipe import ON_A_GPU, Recipe
from strata.model_store.training.record import RECORD, RunRecord
from tests.engine.reference import Reference
from tests.tiny_models import MAX_TOKENS, texts

TEXTS = texts(4, seed=8)
DEFAULT_BUNDLE = Path(__file__).parents[2] / "model_store" / "bundles" / "strata-gte-small-2d"


@pytest.fixture(scope="module")
def finished(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model made by the command itself."""
    folder = tmp_path_factory.mktemp("command")
    some = texts(40, seed=5, longest=8)
    (folder / "texts.txt").write_text("\n".join(some))
    (folder / "pairs.tsv").write_text("\n".join(f"{text}\t{text} again" for text in some))
    alike = [f"5\t{text}\t{text} river" for text in some[:15]]
    unlike = [f"{i % 3}\t{some[i]}\t{some[i + 7]}" for i in range(15, 30)]
    (folder / "sts.tsv").write_text("\n".join(["score\tsentence1\tsentence2", *alike, *unlike]))
    beir = folder / "beir"
    beir.mkdir()
    documents = [{"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(some)]
    queries = [{"_id": f"q{i}", "text": text} for i, text in enumerate(some[:5])]
    (beir / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    (beir / "queries_dev.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (beir / "qrels_dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(f"q{i}\td{i}\t1" for i in range(5)))
    options = f"""{tiny_bert} {folder}/tiny --weights-only --text {folder}/texts.txt --pairs {folder}/pairs.tsv@2
        --steps 3 --dims 8,16 --max-tokens 40 --lanes 1 --quiet --precision fp32 --licence MIT --data-note nothing
        --sts Pairs={folder}/sts.tsv --beir {beir}@dev"""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args(options.split())) == 0
    assert not (folder / "tiny").exists()
    options = options.replace("--weights-only", "--finish")  # as on another machine than the one that trained
    (folder / "tiny.work" / CHECKPOINT).unlink()
    assert run(parser.parse_args(options.split())) == 0
    assert run(parser.parse_args(options.split())) == 1, "an output that exists must not be written over"
    return folder / "tiny"


def refusal(capsys: pytest.CaptureFixture[str], base: Path, output: Path, *options: object) -> str:
    """The one line that a run with these options ends in, at its start."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = (base, output, "--steps", "1", "--lanes", "1", "--quiet", *options)
    capsys.readouterr()
    assert run(parser.parse_args(list(map(str, words)))) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("strata train")]
    assert len(lines) == 1
    return lines[0]


def test_training_needs_no_onnx(
    finished: Path, tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "has_onnx", lambda: False)
    options = (
        f"{tiny_bert} {tmp_path}/out --text {finished.parent}/texts.txt --steps 1 --max-tokens 40 --lanes 1 --quiet"
    )
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args(options.split())) == 0
    assert "to be finished elsewhere" in capsys.readouterr().err
    assert (tmp_path / "out.work" / "model").exists()
    assert not (tmp_path / "out").exists()
    assert run(parser.parse_args([*options.split(), "--finish"])) == 1
    assert "pip install onnx" in capsys.readouterr().err


def test_a_gpu_gets_large_steps_where_nothing_else_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    (tmp_path / "recipe.json").write_text('{"bank": 5, "minutes": 2}')
    given = parser.parse_args(f"base out --recipe {tmp_path}/recipe.json --learning-rate 0.1".split())
    monkeypatch.setattr(precision, "pick_device", lambda: torch.device("cpu"))
    on_a_cpu = command._recipe(given)
    monkeypatch.setattr(precision, "pick_device", lambda: torch.device("cuda"))
    on_a_gpu = command._recipe(given)
    assert on_a_cpu == Recipe(bank=5, minutes=2, learning_rate=0.1)
    assert (on_a_gpu.bank, on_a_gpu.minutes, on_a_gpu.learning_rate) == (5, 2, 0.1)
    assert on_a_gpu.step_tokens > 10 * on_a_cpu.step_tokens


def test_the_defaults_on_a_gpu_are_the_recipe_of_the_default_model() -> None:
    card = (DEFAULT_BUNDLE / "README.md").read_text(encoding="utf-8")
    made_by = Recipe.model_validate_json(card.split("```json")[1].split("```")[0])
    its_own = {"exits", "steps", "minutes", "seed"}
    assert Recipe(**ON_A_GPU).model_dump(exclude=its_own) == made_by.model_dump(exclude=its_own)


def test_full_depth_is_what_sentence_transformers_computes(finished: Path) -> None:
    theirs = SentenceTransformer(str(finished), device="cpu", model_kwargs={"dtype": torch.float32}).encode(TEXTS)
    ours = unit(ReferenceEncoder(finished).encode(TEXTS)[3], 32)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_folder_is_a_bundle(finished: Path) -> None:
    manifest = Bundle.open(finished).manifest
    assert (manifest.exits, manifest.heads, manifest.dims) == ((1, 2, 3), (0, 1, 2), (8, 16, 32))
    assert (manifest.max_tokens, manifest.pooling) == (MAX_TOKENS, "mean")
    assert manifest.quality is not None
    assert {name: each.task for name, each in manifest.quality.sets.items()} == {
        "Pairs": "similarity",
        "beir": "search",
    }
    assert set(manifest.quality.sets["Pairs"].scores) == {1, 2, 3}


def test_weights_and_heads_are_half_precision(finished: Path) -> None:
    bundle = Bundle.open(finished)
    assert bundle.heads is not None
    parts = ("bias", "queries", "weight")
    assert sorted(bundle.heads.names()) == [f"heads.{e}.{part}" for e in (0, 1, 2) for part in parts]
    for file in (bundle.weights, bundle.heads):
        assert {file.stored(name)[1] for name in file.names()} == {"F16"}
    assert not any("pooler" in name for name in bundle.weights.names()), "weights that no exit uses"


def test_early_exits_go_through_their_heads(finished: Path) -> None:
    encoder = ReferenceEncoder(finished)
    with_heads = encoder.encode(TEXTS)
    bundle = Bundle.open(finished)
    assert bundle.heads is not None
    reference = Reference(finished, bundle.manifest)
    for at, text in enumerate(TEXTS):
        tokens = np.array(encoder.tokenizer(text)["input_ids"], np.int32)
        for layer, vector in reference.vectors(tokens, (1, 2, 3)).items():
            np.testing.assert_allclose(unit(with_heads[layer][at : at + 1], 32)[0], vector, atol=1e-5)
    encoder._heads.clear()
    without = encoder.encode(TEXTS)
    np.testing.assert_array_equal(with_heads[3], without[3])
    assert not np.allclose(with_heads[1], without[1], atol=1e-3)


def test_the_card_says_how_it_was_made_and_what_it_scores(finished: Path, tiny_bert: Path) -> None:
    card = (finished / "README.md").read_text()
    for said in (
        "license: mit",
        "| exit | 8 dims | 16 dims | 32 dims |",
        "One query in 16",
        f"pairs.tsv: {sum(not is_held_out(text) for text in texts(40, seed=5, longest=8))} rows, weight 2, sha256 ",
        hashlib.sha256((finished.parent / "texts.txt").read_bytes()).hexdigest(),
        f"strata train {tiny_bert.name} tiny --recipe recipe.json",
        "--pairs pairs.tsv@2",
        f"model.safetensors, sha256 {hashlib.sha256((tiny_bert / 'model.safetensors').read_bytes()).hexdigest()}",
        "may stop at exit 0",
        '"steps": 3',
        "nDCG@10",
    ):
        assert said in card


def test_what_could_not_be_imported_is_refused_before_the_run(
    tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "base"
    shutil.copytree(tiny_bert, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "model_type": "electra"}))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    (tmp_path / "texts.txt").write_text("a text\n" * 8)
    options = f"--text {tmp_path}/texts.txt --steps 1 --quiet"
    assert run(parser.parse_args([str(base), str(tmp_path / "out"), *options.split()])) == 1
    assert "electra" in capsys.readouterr().err
    options += " --max-tokens 100000"
    assert run(parser.parse_args([str(tiny_bert), str(tmp_path / "out"), *options.split()])) == 1
    assert "--max-tokens 100000" in capsys.readouterr().err
    assert not (tmp_path / "out.work").exists()


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ('{"head_queries": 65}', "recipe.json: head_queries: Input should be less than or equal to 64"),
        ('{"cosine": NaN}', "recipe.json: cosine: Input should be a finite number"),
        ('{"clip": Infinity}', "recipe.json: clip: Input should be a finite number"),
        ('{"betas": [0.9, 1.0]}', "recipe.json: betas.1: Input should be less than 1"),
        ('{"betas": [-0.1, 0.9]}', "recipe.json: betas.0: Input should be greater than or equal to 0"),
        ('{"dims": [16, 8]}', "recipe.json: dims must be ascending"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_by_file_and_field(
    tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], recipe: str, told: str
) -> None:
    (tmp_path / "recipe.json").write_text(recipe)
    assert refusal(capsys, tiny_bert, tmp_path / "out", "--recipe", tmp_path / "recipe.json").count(told) == 1


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--name", "../evil"), "--name '../evil': must be at most 96 letters"),
        (("--dims", "16,8"), "dims must be ascending"),
        (("--seed", 1 << 63), "seed: Input should be less than"),
    ],
)
def test_an_option_that_cannot_be_is_refused_before_the_run(
    tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[object, ...], told: str
) -> None:
    assert told in refusal(capsys, tiny_bert, tmp_path / "out", *options)


def test_an_output_whose_name_is_no_models_is_refused_before_the_run(
    tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--name 'my model': must be" in refusal(capsys, tiny_bert, tmp_path / "my model")


@pytest.mark.parametrize("recipe", ["{}", '{"ridge_texts": 0}'])  # found while heads are fitted, or at the first step
def test_a_run_that_does_not_begin_leaves_no_folder(
    tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], recipe: str
) -> None:
    (tmp_path / "recipe.json").write_text(recipe)
    (tmp_path / "one.txt").write_text("a\n")
    options = ("--text", tmp_path / "one.txt", "--recipe", tmp_path / "recipe.json", "--max-tokens", 40)
    assert "at least two texts" in refusal(capsys, tiny_bert, tmp_path / "out", *options)
    told = refusal(capsys, tiny_bert, tmp_path / "out", *options, "--dims", "8,64")
    assert "--dims 8,64: vectors of this model have 1 to 32 elements" in told
    assert not (tmp_path / "out.work").exists()
    (tmp_path / "mine").mkdir()
    refusal(capsys, tiny_bert, tmp_path / "out", *options, "--work", tmp_path / "mine")
    assert (tmp_path / "mine").exists(), "a folder that was there before is somebody's"


def test_a_record_that_is_no_runs_is_told_in_a_line(finished: Path, tmp_path: Path) -> None:
    work = Path(shutil.copytree(finished.parent / "tiny.work", tmp_path / "work"))
    told = json.loads((work / RECORD).read_text())
    told["recipe"]["temperature"] = -1
    (work / RECORD).write_text(json.dumps({**told, "steps": "many"}))
    with pytest.raises(ValueError, match=r"run.json: recipe.temperature: Input should be greater than 0") as refused:
        RunRecord.read(work)
    assert "\n" not in str(refused.value)


def test_source_and_licence_are_the_bases(finished: Path, tiny_bert: Path, tmp_path: Path) -> None:
    assert Bundle.open(finished).manifest.provenance.source == tiny_bert.name
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert (licence_of(tmp_path), licence_of(finished)) == ("apache-2.0", "MIT")


def test_the_tokenizer_carries_no_length_of_its_own(finished: Path) -> None:
    saved = json.loads((finished / "tokenizer.json").read_text())
    assert saved["truncation"] is None
    assert saved["padding"] is None
