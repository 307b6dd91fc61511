"""Queries and documents through the front door."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from httpx import Client, Response

from strata.model_store.bundle.bundle import read_manifest
from strata.model_store.bundle.quality import Side
from strata.model_store.encoding.reference import ReferenceEncoder, unit
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


@pytest.fixture(scope="module")
def searched(start_session_server: ServerFactory, searching: Path) -> Client:
    return start_session_server(searching, "--workers", "1").client


def test_headers_say_what_the_tables_say_for_every_exit_dim_role_and_task(searched: Client, searching: Path) -> None:
    manifest = read_manifest(searching)
    quality = manifest.quality
    assert quality is not None
    label = searched.get("/info").json()["model_id"] + "@" + manifest.revision
    seen = 0
    for role in (None, "query", "document"):
        side: Side = "queries" if role == "query" else "alike"
        for layers in manifest.query_exits if role == "query" else manifest.exits:
            for dim in manifest.dims:
                for task in (None, "similarity", "search"):
                    if role and task == "similarity":
                        continue
                    asked: dict[str, Any] = {"layers": layers, "dim": dim, "input_type": role, "task": task}
                    answer = embed(searched, **asked).headers
                    tasks = (task,) if task else ("search",) if role else ("similarity", "search")
                    worths = [quality.worth(each, layers, dim, side) for each in tasks]
                    worth = min((worth for worth in worths if worth), key=lambda worth: worth.share)
                    assert answer["x-strata-layers"] == str(layers)
                    assert (answer["x-strata-quality"], answer["x-strata-task"]) == (f"{worth.share:.4f}", worth.task)
                    assert answer.get("x-strata-input-type") == role
                    index = 3 if role == "query" else layers
                    assert answer["x-strata-space"] == f"{label}/{index}x{dim}"
                    seen += 1
    assert seen == 3 * 4 + 2 * 6 + 2 * 4


def test_exit_0_is_the_embedding_layer_through_its_head(searched: Client, searching: Path) -> None:
    found = vector(embed(searched, input_type="query", layers=0))
    expected = unit(ReferenceEncoder(searching).encode([TEXT], (0,))[0], 32)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    refused = searched.post("/embed", json={"inputs": TEXT, "layers": 0})
    assert refused.status_code == 422
    assert "`layers` must be one of 1, 3. Given: 0" in refused.json()["error"]


def test_plan_and_info_tell_of_roles_and_tasks(searched: Client) -> None:
    plan = searched.get("/plan?input_type=query&budget_ms=60000").json()
    assert plan["terms"]["exits"] == [0, 1, 3]
    assert (plan["terms"]["input_type"], plan["plan"]["task"]) == ("query", "search")
    assert [row["layers"] for row in plan["alternatives"]] == [0, 1, 3]
    assert plan["plan"]["space"].endswith("/3x32")
    pinned = searched.get("/plan?input_type=document&budget_ms=60000").json()
    assert pinned["terms"]["exits"] == [3]
    assert searched.get("/plan?task=similarity").json()["terms"]["task"] == "similarity"
    info = searched.get("/info").json()
    assert (info["exits"], info["query_exits"]) == ([1, 3], [0, 1, 3])
    queries = info["quality"]["tasks"]["search"]["queries_on_full_depth_documents"]
    assert queries["0"]["32"] == {"share": pytest.approx(44.7 / 80, abs=1e-4), "worst": 0.54, "worst_set": "news"}
    assert info["quality"]["sets"]["law"]["reference_score"] == 80.0
    metrics = searched.get("/metrics").text
    assert re.search(r'strata_tier_quality_count\{task="search",tier="default"\}', metrics)


def test_a_long_request_of_queries_at_exit_0_keeps_one_depth(searched: Client) -> None:
    """More than a batch holds: its later texts must not be run deeper."""
    texts = [f"{TEXT} {i}" for i in range(300)]
    answer = embed(searched, inputs=texts, input_type="query", min_quality=0.5)
    assert answer.headers["x-strata-layers"] == "0"
    alone = vector(embed(searched, inputs=texts[-1], input_type="query", layers=0))
    np.testing.assert_allclose(np.array(answer.json()[-1]), alone, atol=1e-5)
