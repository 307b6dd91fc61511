"""What processes of ours find on their path: what the caller put there, never the working directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from strata.app.safe_path import safe_environment


def test_the_working_directory_is_not_on_the_path_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for entries in ([""], ["."], [str(tmp_path)], [f"{tmp_path}/"], ["a/.."], ["", "."]):
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(entries))
        assert "PYTHONPATH" not in safe_environment(), entries


def test_a_folder_named_from_the_working_directory_is_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(("site", "", "/elsewhere")))
    assert safe_environment()["PYTHONPATH"] == os.pathsep.join((str(tmp_path / "site"), "/elsewhere"))
