"""Models and bundles that the tests of the store start from. Session-wide ones are copied before they are changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from strata.model_store.importing import Overrides, import_model
from tests.tiny_models import tiny_encoder, tiny_sentence_model


@pytest.fixture(scope="session")
def bert_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder of 4 layers; not to be changed."""
    return tiny_sentence_model(tmp_path_factory.mktemp("source") / "tiny-bert", "bert", prompts={"query": "find: "})


@pytest.fixture(scope="session")
def plain_modernbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder of a pre-norm encoder of 6 layers; not to be changed."""
    return tiny_encoder(tmp_path_factory.mktemp("source") / "tiny-modernbert", "modernbert", layers=6)


@pytest.fixture(scope="session")
def sound_bundle(bert_source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of that model with exits 2 and 4; not to be changed."""
    destination = tmp_path_factory.mktemp("store") / "tiny"
    import_model(bert_source, destination, overrides=Overrides(exits=(2, 4), dims=(8, 16)))
    return destination


@pytest.fixture
def source(bert_source: Path, tmp_path: Path) -> Path:
    """A copy of the source to be spoilt."""
    return Path(shutil.copytree(bert_source, tmp_path / "tiny-bert"))


@pytest.fixture
def bundle(sound_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle to be spoilt."""
    return Path(shutil.copytree(sound_bundle, tmp_path / "tiny"))
