"""The `cohere` package, unmodified."""

from __future__ import annotations

import asyncio
from typing import Final

import cohere
import pytest

from tests.clients.conftest import TEXTS, TOO_LONG, Embed, same
from tests.conftest import RunningServer

KINDS: Final = ("float", "int8", "uint8", "binary", "ubinary")


@pytest.fixture(scope="module")
def api(server: RunningServer) -> cohere.ClientV2:
    return cohere.ClientV2(api_key="none needed", base_url=server.url)


def test_several_types_come_at_once(api: cohere.ClientV2, embed: Embed) -> None:
    answer = api.embed(
        model="embed-v4.0",
        texts=TEXTS,
        input_type="classification",
        embedding_types=KINDS,
        output_dimension=16,
    )
    same(answer.embeddings.float_, embed(TEXTS, dim=16))
    for kind in KINDS[1:]:
        assert getattr(answer.embeddings, kind) == embed(TEXTS, dim=16, output_dtype=kind).astype(int).tolist()
    assert answer.texts == TEXTS
    assert answer.meta
    assert answer.meta.billed_units


def test_queries_and_documents_get_the_models_prompts(api: cohere.ClientV2, embed: Embed) -> None:
    for theirs, ours in (("search_query", "query"), ("search_document", "document")):
        answer = api.embed(model="tiny", texts=TEXTS, input_type=theirs, embedding_types=["float"])
        same(answer.embeddings.float_, embed(TEXTS, input_type=ours))


def test_layers_go_in_the_additional_body(api: cohere.ClientV2, embed: Embed) -> None:
    options: cohere.core.RequestOptions = {"additional_body_parameters": {"layers": 2}}
    answer = api.embed(model="tiny", texts=TEXTS, input_type="clustering", request_options=options)
    same(answer.embeddings.float_, embed(TEXTS, layers=2))


def test_the_async_client_is_answered_too(server: RunningServer, embed: Embed) -> None:
    async def ask() -> object:
        api = cohere.AsyncClientV2(api_key="-", base_url=server.url)
        answer = await api.embed(model="tiny", texts=TEXTS, input_type="clustering", embedding_types=["float"])
        return answer.embeddings.float_

    same(asyncio.run(ask()), embed(TEXTS))


def test_mistakes_are_its_own_exceptions(api: cohere.ClientV2) -> None:
    with pytest.raises(cohere.BadRequestError, match="dim"):
        api.embed(model="tiny", texts=TEXTS, input_type="clustering", output_dimension=9)
    with pytest.raises(cohere.BadRequestError, match="texts"):
        api.embed(model="tiny", texts=[TOO_LONG], input_type="clustering", truncate="NONE")
