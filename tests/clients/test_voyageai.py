"""The `voyageai` package, unmodified."""

from __future__ import annotations

import asyncio

import pytest
import voyageai

from tests.clients.conftest import TEXTS, TOO_LONG, Embed, same
from tests.conftest import RunningServer


@pytest.fixture(scope="module")
def api(server: RunningServer) -> voyageai.Client:
    return voyageai.Client(api_key="none needed", base_url=server.url + "/v1", max_retries=0)


@pytest.mark.parametrize("kind", ["float", "int8", "uint8", "binary", "ubinary"])
def test_every_type_at_a_length(api: voyageai.Client, embed: Embed, kind: str) -> None:
    answer = api.embed(TEXTS, model="voyage-4", output_dimension=16, output_dtype=kind)
    same(answer.embeddings, embed(TEXTS, dim=16, output_dtype=kind))
    assert answer.total_tokens > len(TEXTS)


@pytest.mark.parametrize("input_type", [None, "query", "document"])
def test_queries_and_documents_get_the_models_prompts(
    api: voyageai.Client, embed: Embed, input_type: str | None
) -> None:
    answer = api.embed(TEXTS, model="tiny", input_type=input_type)
    same(answer.embeddings, embed(TEXTS, input_type=input_type))


def test_truncation_says_whether_long_texts_are_cut(api: voyageai.Client, embed: Embed) -> None:
    same(api.embed([TOO_LONG], model="tiny", truncation=True).embeddings, embed([TOO_LONG]))
    with pytest.raises(voyageai.error.InvalidRequestError, match="tokens"):
        api.embed([TOO_LONG], model="tiny", truncation=False)


def test_the_async_client_is_answered_too(server: RunningServer, embed: Embed) -> None:
    async def ask() -> object:
        api = voyageai.AsyncClient(api_key="-", base_url=server.url + "/v1")
        return (await api.embed(TEXTS, model="tiny")).embeddings

    same(asyncio.run(ask()), embed(TEXTS))
