"""Queries and documents through the front door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from httpx import Client, Response

from tests.conftest import ServerFactory

TEXT = "the river and the mountain"
PROMPTED = "question the answer " + TEXT


def embed(client: Client, *, query: str = "", headers: dict[str, str] | None = None, **fields: object) -> Response:
    response = client.post("/embed" + query, json={"inputs": TEXT, **fields}, headers=headers)
    assert response.status_code == 200, response.text
    return response


def vector(response: Response) -> np.ndarray:
    return np.array(response.json()[0])


def test_the_role_picks_the_models_own_prompt(client: Client) -> None:
    prompted = vector(embed(client, inputs=PROMPTED))
    plain = vector(embed(client))
    assert np.abs(prompted - plain).max() > 0.01
    for said in (
        embed(client, input_type="query"),
        embed(client, query="?input_type=query"),
        embed(client, headers={"X-Strata-Input-Type": "query"}),
    ):
        np.testing.assert_allclose(vector(said), prompted, atol=1e-5)
    np.testing.assert_allclose(vector(embed(client, input_type="document")), plain, atol=1e-5)
    np.testing.assert_allclose(vector(embed(client, input_type="query", prompt_name="passage")), plain, atol=1e-5)
    body = {"input": TEXT, "input_type": "query"}
    openai = client.post("/v1/embeddings", json=body).json()["data"][0]["embedding"]
    np.testing.assert_allclose(np.array(openai), prompted, atol=1e-5)


@pytest.mark.parametrize("place", ["body", "query", "header"])
def test_another_word_is_refused_with_the_words_there_are(client: Client, place: str) -> None:
    body, query, headers = {"inputs": TEXT}, {}, {}
    if place == "body":
        body["input_type"] = "passage"
    elif place == "query":
        query["input_type"] = "passage"
    else:
        headers["X-Strata-Input-Type"] = "passage"
    response = client.post("/embed", json=body, params=query, headers=headers)
    assert response.status_code == 422
    assert "input_type" in response.json()["error"]
    assert "query" in response.json()["error"]
    assert "document" in response.json()["error"]


def test_a_tier_may_say_it_for_those_who_do_not(start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path) -> None:
    tiers = tmp_path / "tiers.toml"
    tiers.write_text('[[tier]]\nname = "search"\ninput_type = "query"\nanonymous = true\n')
    client = start_server(tiny_bundle, "--tiers", str(tiers)).client
    np.testing.assert_allclose(vector(embed(client)), vector(embed(client, prompt_name="query")), atol=1e-6)
    np.testing.assert_allclose(
        vector(embed(client, input_type="document")), vector(embed(client, prompt_name="passage")), atol=1e-6
    )
