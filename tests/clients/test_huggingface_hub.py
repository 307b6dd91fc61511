"""`huggingface_hub.InferenceClient`, unmodified, pointed at the server's bare address as its users do."""

from __future__ import annotations

import asyncio
from typing import Literal

import numpy as np
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from tests.clients.conftest import TEXTS, TOO_LONG, Embed, same
from tests.conftest import RunningServer


@pytest.fixture
def hub(server: RunningServer) -> InferenceClient:
    return InferenceClient(base_url=server.url)


def test_one_text_and_many(hub: InferenceClient, embed: Embed) -> None:
    same(hub.feature_extraction(TEXTS), embed(TEXTS))
    same(hub.feature_extraction(TEXTS[0]), embed(TEXTS[:1]))


def test_the_model_argument_may_be_the_url(server: RunningServer, embed: Embed) -> None:
    same(InferenceClient(model=server.url).feature_extraction(TEXTS), embed(TEXTS))


def test_the_url_may_fix_depth_and_length(server: RunningServer, embed: Embed) -> None:
    shallow = InferenceClient(model=server.url + "/embed?layers=2&dim=16")
    same(shallow.feature_extraction(TEXTS), embed(TEXTS, layers=2, dim=16))


def test_vectors_are_left_unscaled_when_asked(hub: InferenceClient, embed: Embed) -> None:
    found = hub.feature_extraction(TEXTS, normalize=False)
    same(found, embed(TEXTS, normalize=False))
    assert not np.allclose(np.linalg.norm(found, axis=1), 1.0)


def test_prompts_are_found_by_name(hub: InferenceClient, embed: Embed) -> None:
    found = hub.feature_extraction(TEXTS, prompt_name="query")
    same(found, embed(["question the answer " + text for text in TEXTS]))


@pytest.mark.parametrize("side", ["left", "right"])
def test_long_texts_are_cut_on_the_side_asked(
    hub: InferenceClient, embed: Embed, side: Literal["left", "right"]
) -> None:
    text = "winter " + TOO_LONG + "summer"
    found = hub.feature_extraction(text, truncate=True, truncation_direction=side)
    same(found, embed([text], truncate=True, truncation_direction=side.capitalize()))


def test_dimensions_cut_the_vector(hub: InferenceClient, embed: Embed) -> None:
    same(hub.feature_extraction(TEXTS, dimensions=8), embed(TEXTS, dim=8))


def test_the_async_client_is_answered_too(server: RunningServer, embed: Embed) -> None:
    async def ask() -> object:
        async with AsyncInferenceClient(base_url=server.url) as hub:
            return await hub.feature_extraction(TEXTS)

    same(asyncio.run(ask()), embed(TEXTS))


def test_a_text_too_long_to_be_taken_whole_is_its_http_error(hub: InferenceClient) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        hub.feature_extraction(TOO_LONG, truncate=False)
    assert caught.value.response.status_code == 422


def test_overload_is_its_http_error(full: RunningServer) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        InferenceClient(base_url=full.url).feature_extraction(TEXTS)
    assert caught.value.response.status_code == 429
