"""A bundle is finished where onnx is not installed, too: it runs on torch, and its maker hears of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from strata.model_store.bundle import finishing
from strata.model_store.bundle.bundle import Bundle, read_manifest


def test_without_onnx_a_bundle_has_no_graphs(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    shutil.rmtree(folder / "onnx")
    monkeypatch.setattr(finishing, "find_spec", lambda name: None)
    finished = finishing.finish_bundle(folder, read_manifest(folder))
    assert "runs on torch" in capsys.readouterr().err
    assert not any("onnx" in name for name in finished.files)
    assert Bundle.open(folder).manifest == finished
