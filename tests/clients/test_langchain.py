"""LangChain's TEI client (`langchain-huggingface`), unmodified."""

from __future__ import annotations

import asyncio

from langchain_huggingface import HuggingFaceEndpointEmbeddings

from tests.clients.conftest import TEXTS, Embed, same
from tests.conftest import RunningServer


def test_documents_and_a_query(server: RunningServer, embed: Embed) -> None:
    embeddings = HuggingFaceEndpointEmbeddings(model=server.url)
    same(embeddings.embed_documents(TEXTS), embed(TEXTS))
    same([embeddings.embed_query(TEXTS[0])], embed(TEXTS[:1]))


def test_a_whole_collection_in_one_call(server: RunningServer, embed: Embed) -> None:
    """It never splits a list, so a server that takes 32 texts a request would fail it."""
    documents = [f"{TEXTS[i % 3]} number {i}" for i in range(300)]
    found = HuggingFaceEndpointEmbeddings(model=server.url).embed_documents(documents)
    same(found, embed(documents))


def test_the_url_may_fix_depth_and_length(server: RunningServer, embed: Embed) -> None:
    embeddings = HuggingFaceEndpointEmbeddings(model=server.url + "/embed?layers=2&dim=8")
    same(embeddings.embed_documents(TEXTS), embed(TEXTS, layers=2, dim=8))


def test_options_are_passed_on(server: RunningServer, embed: Embed) -> None:
    embeddings = HuggingFaceEndpointEmbeddings(model=server.url, model_kwargs={"prompt_name": "query"})
    same([embeddings.embed_query(TEXTS[0])], embed(TEXTS[:1], prompt_name="query"))


def test_its_async_methods_are_answered_too(server: RunningServer, embed: Embed) -> None:
    embeddings = HuggingFaceEndpointEmbeddings(model=server.url)
    same(asyncio.run(embeddings.aembed_documents(TEXTS)), embed(TEXTS))
