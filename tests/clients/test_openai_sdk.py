"""The `openai` package, unmodified: its defaults, its options, its exception classes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pytest

from tests.clients.conftest import TEXTS, TOO_LONG, Embed, same
from tests.conftest import RunningServer, ServerFactory


def sdk(server: RunningServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.url + "/v1", api_key="none needed", max_retries=0)


@pytest.fixture(scope="module")
def api(server: RunningServer) -> Iterator[openai.OpenAI]:
    with sdk(server) as api:
        yield api


def test_its_default_encoding_is_read_back_as_floats(api: openai.OpenAI, embed: Embed) -> None:
    answer = api.embeddings.create(model="tiny", input=TEXTS)  # asks for base64 where the caller says nothing
    same([item.embedding for item in answer.data], embed(TEXTS))
    assert [item.index for item in answer.data] == [0, 1, 2]
    assert answer.model == "tiny"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > len(TEXTS)


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_every_encoding_is_answered(api: openai.OpenAI, embed: Embed, encoding: Literal["float", "base64"]) -> None:
    answer = api.embeddings.create(model="tiny", input=TEXTS[0], encoding_format=encoding)
    assert isinstance(answer.data[0].embedding, list if encoding == "float" else str)
    if encoding == "float":
        same([answer.data[0].embedding], embed(TEXTS[:1]))


def test_dimensions_cut_the_vector(api: openai.OpenAI, embed: Embed) -> None:
    answer = api.embeddings.create(model="tiny", input=TEXTS, dimensions=8)
    same([item.embedding for item in answer.data], embed(TEXTS, dim=8))


def test_layers_go_in_the_extra_body_and_what_ran_comes_in_the_headers(api: openai.OpenAI, embed: Embed) -> None:
    raw = api.embeddings.with_raw_response.create(model="tiny", input=TEXTS, extra_body={"layers": 2})
    same([item.embedding for item in raw.parse().data], embed(TEXTS, layers=2))
    assert raw.headers["x-strata-layers"] == "2"


def test_a_base_url_can_fix_the_depth_for_code_that_knows_nothing_of_it(server: RunningServer, embed: Embed) -> None:
    with openai.OpenAI(base_url=server.url + "/v1", api_key="-", default_query={"layers": 1, "dim": 16}) as api:
        answer = api.embeddings.create(model="tiny", input=TEXTS)
    same([item.embedding for item in answer.data], embed(TEXTS, layers=1, dim=16))


def test_token_ids_are_accepted(api: openai.OpenAI, client: httpx.Client, embed: Embed) -> None:
    tokenized = client.post("/tokenize", json={"inputs": TEXTS}).json()
    ids = [[token["id"] for token in text] for text in tokenized]
    answer = api.embeddings.create(model="tiny", input=ids)
    same([item.embedding for item in answer.data], embed(TEXTS))


def test_the_async_client_is_answered_too(server: RunningServer, embed: Embed) -> None:
    async def ask() -> list[list[float]]:
        async with openai.AsyncOpenAI(base_url=server.url + "/v1", api_key="-") as api:
            answers = await asyncio.gather(*(api.embeddings.create(model="tiny", input=text) for text in TEXTS))
        return [answer.data[0].embedding for answer in answers]

    same(asyncio.run(ask()), embed(TEXTS))


def test_the_model_is_listed_and_found(api: openai.OpenAI) -> None:
    assert [model.id for model in api.models.list()] == ["tiny"]
    assert api.models.retrieve("tiny").owned_by == "strata"


def test_an_unknown_model_is_not_found(api: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        api.models.retrieve("gpt-4")
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": "winter", "dimensions": 9}, "dim"),
        ({"input": "winter", "extra_body": {"layers": 3}}, "layers"),
    ],
)
def test_a_bad_request_is_that_exception_and_names_the_field(
    api: openai.OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        api.embeddings.create(model="tiny", **fields)
    assert caught.value.type == "invalid_request_error"
    assert param in str(caught.value.param)


def test_a_text_that_is_too_long_is_refused_where_the_server_does_not_cut(
    start_server: ServerFactory, tiny_bundle: Path
) -> None:
    with sdk(start_server(tiny_bundle, "--no-auto-truncate")) as api, pytest.raises(openai.BadRequestError):
        api.embeddings.create(model="tiny", input=TOO_LONG)


def test_overload_is_a_rate_limit_error_that_says_when_to_come_back(full: RunningServer) -> None:
    with sdk(full) as api, pytest.raises(openai.RateLimitError) as caught:
        api.embeddings.create(model="tiny", input=TEXTS)
    assert int(caught.value.response.headers["retry-after"]) >= 1


@pytest.mark.parametrize("kind", ["int8", "ubinary"])
def test_bytes_are_not_read_as_floats(api: openai.OpenAI, embed: Embed, kind: str) -> None:
    asked: dict[str, Any] = {"model": "tiny", "input": TEXTS, "extra_body": {"output_dtype": kind}}
    with pytest.raises(openai.BadRequestError, match="encoding_format") as refused:  # it asks for base64 by itself
        api.embeddings.create(**asked)
    assert refused.value.param == "encoding_format"
    answer = api.embeddings.create(**asked, encoding_format="float")
    same([item.embedding for item in answer.data], embed(TEXTS, output_dtype=kind).astype(float))
