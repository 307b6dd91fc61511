"""`chromadb`, unmodified: its functions for OpenAI's and text-embeddings-inference's servers."""

from __future__ import annotations

from typing import Any

import chromadb
import pytest
from chromadb.utils.embedding_functions.huggingface_embedding_function import HuggingFaceEmbeddingServer
from chromadb.utils.embedding_functions.openai_embedding_function import OpenAIEmbeddingFunction

from tests.clients.conftest import TEXTS, Embed, same
from tests.conftest import RunningServer


@pytest.fixture(params=["openai", "text-embeddings-inference"])
def function(request: pytest.FixtureRequest, server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "openai":
        monkeypatch.setenv("CHROMA_OPENAI_API_KEY", "none needed")
        return OpenAIEmbeddingFunction(api_base=server.url + "/v1", model_name="tiny")
    return HuggingFaceEmbeddingServer(url=server.url + "/embed")


def test_a_collection_is_filled_and_asked(function: Any, embed: Embed) -> None:
    same(function(TEXTS), embed(TEXTS))
    settings = chromadb.Settings(anonymized_telemetry=False)
    collection = chromadb.EphemeralClient(settings).create_collection(
        f"texts-{type(function).__name__.lower()}", embedding_function=function
    )
    collection.add(ids=["0", "1", "2"], documents=TEXTS)
    assert collection.query(query_texts=[TEXTS[1]], n_results=1)["ids"] == [["1"]]


def test_the_length_is_passed_on(server: RunningServer, embed: Embed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMA_OPENAI_API_KEY", "none needed")
    short = OpenAIEmbeddingFunction(api_base=server.url + "/v1", model_name="text-embedding-3-small", dimensions=8)
    same(short(TEXTS), embed(TEXTS, dim=8))
