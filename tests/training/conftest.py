"""A tiny encoder and tiny data to train on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

pytest.importorskip("sentence_transformers", reason="training needs the train extra")

from strata.model_store.training.sources import GroupSource, LineSource
from tests.tiny_models import texts, tiny_sentence_model


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """One thread: products this small are only slowed down by more, and their sums then have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of 3 layers and 32 dims."""
    return tiny_sentence_model(tmp_path_factory.mktemp("encoders") / "bert", "bert", layers=3)


@pytest.fixture
def lines() -> LineSource:
    """Short lines, and after every fifth a passage of four sentences."""
    short = texts(50, longest=9)
    passages = [" ".join(text.rstrip(".?") + "." for text in texts(4, seed=i, longest=12)) for i in range(1, 11)]
    return LineSource("lines", [line for i in range(10) for line in (*short[5 * i : 5 * i + 5], passages[i])])


@pytest.fixture
def pairs() -> GroupSource:
    """Pairs of texts that share all but a word."""
    return GroupSource("pairs", [(text, f"{text} garden") for text in texts(20, seed=99, longest=6)])
