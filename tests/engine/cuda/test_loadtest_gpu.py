"""`strata loadtest gpu` runs from end to end; on a CPU, a tiny model, with no more than a lent GPU machine has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from strata.model_store.importing.importer import import_model
from strata.model_store.importing.overrides import Overrides
from tests.tiny_models import tiny_encoder

# What such a machine has, or is brought to it because a server cannot start without. Everything else that Strata
# depends on must not be needed to measure: rich, markdown-it-py, onnx and what comes after them.
_THERE = {
    *("fastapi", "numpy", "onnxruntime", "orjson", "prometheus_client", "pydantic", "pydantic_settings"),
    *("safetensors", "tokenizers", "torch", "transformers", "uvicorn"),
}
_NAMES = {"markdown_it_py": "markdown_it"}  # imported by another name than the package's

_ABSENT = """
from importlib.machinery import PathFinder

absent, find = {absent!r}, PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name.partition(".")[0] in absent else find(name, *rest)
"""


def test_its_sections_run_where_little_is_installed(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    wanted = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    packages = {re.split(r"[\[<>=!~; ]", line)[0].replace("-", "_") for line in wanted}
    absent = {_NAMES.get(name, name) for name in packages - _THERE}
    assert "rich" in absent
    (tmp_path / "sitecustomize.py").write_text(_ABSENT.format(absent=absent), encoding="utf-8")
    source = tiny_encoder(tmp_path / "source", "bert", layers=6)
    import_model(source, tmp_path / "bundle", overrides=Overrides(pooling="mean", exits=(1, 3, 6), dims=(16, 32)))
    options = ("--device", "cpu", "--batch", "8", "--seconds", "0.01", "--dtypes", "bfloat16")
    sections = ("--sections", "machine", "checks", "speed", "server", "profile")
    command = ("loadtest", "gpu", *options, *sections, "--", "--model", str(tmp_path / "bundle"))
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "strata.app.cli", *command], env=environment, capture_output=True, text=True
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert "failed" not in done.stdout
    for told in ("matrix product", "worst cosine alone", "a shape never seen", "waiting after each ms"):
        assert told in done.stdout
    assert "requests of 8 on 8 connections" in done.stdout, "no more than the texts there are"
    assert "requests of 128" not in done.stdout
