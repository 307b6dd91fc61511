"""A tiny bundle to measure, and labelled data on which its vectors say something."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.tiny_models import texts

for package in ("scipy", "tqdm", "matplotlib"):
    pytest.importorskip(package, reason="measuring needs the train extra")


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """One thread: products this small are only slowed down by more, and their sums then have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to be written to."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny"))


@pytest.fixture(scope="session")
def sts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs that share most words or none, scored so."""
    file = tmp_path_factory.mktemp("sts") / "pairs.tsv"
    some = texts(60, seed=5, longest=8)
    alike = [f"{4 + i % 2}\t{text}\t{text} river" for i, text in enumerate(some[:20])]
    unlike = [f"{i % 3}\t{some[i]}\t{some[i + 20]}" for i in range(20, 40)]
    file.write_text("\n".join(["score\tsentence1\tsentence2", *alike, *unlike]) + "\n")
    return file


@pytest.fixture(scope="session")
def beir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, and queries that are their first half."""
    folder = tmp_path_factory.mktemp("beir")
    some = [text for text in texts(60, seed=6) if len(text.split()) > 6][:30]
    documents = [{"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(some)]
    queries = [{"_id": f"q{i}", "text": text[: len(text) // 2]} for i, text in enumerate(some[:12])]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, documents)))
    (folder / "queries_dev.jsonl").write_text("\n".join(map(json.dumps, queries)))
    lines = [f"q{i}\td{i}\t1" for i in range(12)]
    (folder / "qrels_dev.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]))
    return folder
