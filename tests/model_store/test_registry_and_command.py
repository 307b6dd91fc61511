"""Bundles are found by name or path, and `strata models` says plainly what it did and what is wrong."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from strata.model_store import command
from strata.model_store.bundle import registry
from strata.model_store.importing.safetensors_writer import StoredTensor, write_safetensors
from tests.model_store.folders import edit_json


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty user's store, and no built-in bundles."""
    folder = tmp_path / "the-store"
    monkeypatch.setenv("STRATA_MODEL_STORE", str(folder))
    monkeypatch.setattr(registry, "_BUILT_IN", tmp_path / "none")
    return folder


def _models(*words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("STRATA_MODEL_STORE", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert registry.store() == tmp_path / ".local/share/strata/models"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert registry.store() == tmp_path / "data/strata/models"
    monkeypatch.setenv("STRATA_MODEL_STORE", "~/mine")
    assert registry.store() == tmp_path / "mine"


def test_bundles_are_found_by_name_and_by_path(
    store: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(bundle, store / "mine")
    (store / ".adding-x").mkdir()
    (store / "junk").mkdir()
    assert [(b.name, b.built_in) for b in registry.installed()] == [("mine", False)]
    assert registry.find("mine") == store / "mine"
    assert registry.find(str(bundle)) == bundle
    assert registry.find(bundle) == bundle
    monkeypatch.chdir(bundle.parent)
    assert registry.find("./tiny") == Path("tiny")
    assert registry.find("tiny") == Path("tiny")
    with pytest.raises(registry.NotFoundError, match=r"no model 'other'; installed: mine; .* strata models add PATH"):
        registry.find("other")
    with pytest.raises(registry.NotFoundError, match=r"holds no manifest.json, so it is not a bundle"):
        registry.find(tmp_path)


def test_the_users_bundle_hides_the_built_in_one(
    store: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(registry, "_BUILT_IN", tmp_path / "built-in")
    shutil.copytree(bundle, tmp_path / "built-in" / "a")
    assert registry.installed() == [registry.Installed("a", tmp_path / "built-in" / "a", True)]
    shutil.copytree(bundle, store / "a")
    assert registry.installed() == [registry.Installed("a", store / "a", False)]


def test_add_warns_loudly_when_only_full_depth_is_trained(
    store: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _models("add", source) == 0
    printed = capsys.readouterr()
    assert "Added tiny-bert" in printed.out
    assert "WARNING: only full depth (4 layers) is trained" in printed.err
    assert (store / "tiny-bert" / "manifest.json").is_file()


def test_add_with_exits_does_not_warn(store: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--exits", "1,2,4", "--dims", "8,16", "--name", "two-d", "--licence", "MIT", "--source", "me/two-d"]
    assert _models("add", source, *words) == 0
    assert capsys.readouterr().err == ""
    assert _models("list") == 0
    listed = capsys.readouterr().out
    for part in ("two-d (added)", "bert, 4 layers x 32", "exits 1 2 4", "dims 8 16 32", "not measured", "me/two-d"):
        assert part in " ".join(listed.split())
    assert registry.find("two-d") == store / "two-d"


def test_a_refusal_is_one_line_and_status_1(
    store: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = source
    (plain / "modules.json").unlink()
    assert _models("add", plain) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("Not added: ")
    assert printed.err.count("\n") == 1
    assert "--pooling" in printed.err
    for name in ("../out", "..", ".out", "a b", "模型", "x" * 97, "x\n"):
        assert _models("add", plain, "--pooling", "cls", "--name", name) == 1
        assert "must be at most 96 letters from a to z" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_called_one() -> None:
    with pytest.raises(OSError, match="No space left on device"):
        write_safetensors(Path("/dev/full"), [StoredTensor("a", np.zeros((512, 512), np.float32), "F32")])


def test_add_replaces_only_by_force(store: Path, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _models("add", source) == 0
    assert _models("add", source) == 1
    assert "--force" in capsys.readouterr().err
    assert _models("add", source, "--force") == 0


@pytest.mark.parametrize("words", [["--exits", "a"], ["--exits", "0,4"], ["--dims", ""], ["--pooling", "max"], []])
def test_bad_options_are_usage_errors(source: Path, words: list[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        _models("add", *([source] if words else []), *words)
    assert exit.value.code == 2


def test_verify_says_ok_or_the_reason(store: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(bundle, store / "good")
    assert _models("verify") == 0
    assert "OK" in capsys.readouterr().out
    shutil.copytree(bundle, store / "bad")
    (store / "bad" / "tokenizer.json").unlink()
    assert _models("verify", "good") == 0
    assert _models("verify") == 1
    assert "tokenizer.json: missing" in capsys.readouterr().out
    assert _models("verify", "nothing") == 1
    assert "no model 'nothing'" in capsys.readouterr().out


def test_list_shows_quality_and_damage(store: Path, bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _models("list") == 0
    assert "No models" in capsys.readouterr().out
    scores = {exit: {8: 60.0, 32: 70.0 + exit} for exit in (2, 4)}
    pairs = {"metric": "points", "count": 9, "sha256": "0" * 64, "reference_score": 80.0, "scores": scores}
    quality = {"reference": "itself", "sets": {"pairs": {"task": "similarity", **pairs}}}
    shutil.copytree(bundle, store / "measured")
    edit_json(store / "measured" / "manifest.json", quality=quality)
    shutil.copytree(bundle, store / "newer")
    edit_json(store / "newer" / "manifest.json", format_version=99)
    assert _models("list") == 0
    listed = capsys.readouterr().out
    assert "quality similarity 2 = 0.900, 4 = 0.925, of itself" in " ".join(listed.split())
    assert "format_version is 99" in " ".join(listed.split())
    assert _models("list", "--json") == 0
    told = {bundle["name"]: bundle for bundle in json.loads(capsys.readouterr().out)}
    assert told["measured"]["quality"]["sets"]["pairs"]["scores"]["2"]["32"] == 72.0
    assert (told["measured"]["exits"], told["measured"]["built_in"]) == ([2, 4], False)
    assert "format_version is 99" in told["newer"]["damaged"]
    assert _models("verify", "--json") == 1
    checked = json.loads(capsys.readouterr().out)
    assert [result["sound"] for result in checked] == [True, False]


def test_the_command_is_cheap_to_import() -> None:
    check = (
        "import sys, strata.model_store.command; "
        "print([m for m in ('torch', 'transformers', 'onnx', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
