"""LlamaIndex's TEI client (`llama-index-embeddings-text-embeddings-inference`), unmodified."""

from __future__ import annotations

import asyncio

from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

from tests.clients.conftest import TEXTS, Embed, same
from tests.conftest import RunningServer


def test_texts_and_a_query(server: RunningServer, embed: Embed) -> None:
    embeddings = TextEmbeddingsInference(model_name="tiny", base_url=server.url)
    same(embeddings.get_text_embedding_batch(TEXTS), embed(TEXTS))
    same([embeddings.get_text_embedding(TEXTS[0])], embed(TEXTS[:1]))
    same([embeddings.get_query_embedding(TEXTS[0])], embed(TEXTS[:1]))


def test_its_own_batches_are_answered_in_order(server: RunningServer, embed: Embed) -> None:
    documents = [f"{TEXTS[i % 3]} number {i}" for i in range(25)]
    embeddings = TextEmbeddingsInference(model_name="tiny", base_url=server.url, embed_batch_size=10)
    same(embeddings.get_text_embedding_batch(documents), embed(documents))


def test_the_endpoint_may_fix_depth_and_length(server: RunningServer, embed: Embed) -> None:
    embeddings = TextEmbeddingsInference(model_name="tiny", base_url=server.url, endpoint="/embed?layers=1&dim=16")
    same(embeddings.get_text_embedding_batch(TEXTS), embed(TEXTS, layers=1, dim=16))


def test_its_async_methods_are_answered_too(server: RunningServer, embed: Embed) -> None:
    embeddings = TextEmbeddingsInference(model_name="tiny", base_url=server.url)
    same(asyncio.run(embeddings.aget_text_embedding_batch(TEXTS)), embed(TEXTS))
