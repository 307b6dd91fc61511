"""`/v1/embeddings` and `/v1/models`: OpenAI's contract, with layers."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from httpx import Client, Response

TEXT = "the river and the mountain"
PATHS = pytest.mark.parametrize("path", ["/v1/embeddings", "/embeddings"])


def refused(response: Response, status: int, type_: str = "invalid_request_error") -> dict[str, str]:
    error: dict[str, str] = response.json()["error"]
    assert (response.status_code, error["type"]) == (status, type_), response.text
    assert set(error) == {"message", "type", "param", "code"}
    return error


@PATHS
def test_the_answer_has_openais_shape(client: Client, path: str) -> None:
    response = client.post(path, json={"input": [TEXT, "winter"], "model": "text-embedding-3-small", "user": "me"})
    body = response.json()
    assert response.status_code == 200
    assert (body["object"], body["model"]) == ("list", "tiny")
    assert [(item["object"], item["index"], len(item["embedding"])) for item in body["data"]] == [
        ("embedding", 0, 32),
        ("embedding", 1, 32),
    ]
    tokens = sum(len(row) for row in client.post("/tokenize", json={"inputs": [TEXT, "winter"]}).json())
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    assert response.headers["x-strata-layers"] == "4"


def test_base64_is_the_same_floats(client: Client) -> None:
    body = {"input": [TEXT, "winter"], "layers": 2, "dimensions": 16}
    plain = client.post("/v1/embeddings", json={**body, "encoding_format": "float"}).json()["data"]
    packed = client.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()["data"]
    for left, right in zip(plain, packed, strict=True):
        found = np.frombuffer(base64.b64decode(right["embedding"]), dtype="<f4")
        np.testing.assert_allclose(found, np.array(left["embedding"], np.float32), atol=1e-6)


def test_it_is_the_same_vector_as_embed_gives(client: Client) -> None:
    ours = client.post("/embed", json={"inputs": TEXT, "layers": 2, "dim": 8}).json()[0]
    theirs = client.post("/v1/embeddings?layers=2", json={"input": TEXT, "dimensions": 8}).json()
    np.testing.assert_allclose(theirs["data"][0]["embedding"], ours, atol=1e-5)


def test_token_ids_are_accepted(client: Client) -> None:
    ids = [token["id"] for token in client.post("/tokenize", json={"inputs": TEXT}).json()[0]]
    text = client.post("/v1/embeddings", json={"input": TEXT}).json()["data"][0]["embedding"]
    for given in (ids, [ids]):
        found = client.post("/v1/embeddings", json={"input": given}).json()["data"][0]["embedding"]
        np.testing.assert_allclose(found, text, atol=1e-5)


def test_the_native_size_is_always_accepted(client: Client) -> None:
    assert client.post("/v1/embeddings", json={"input": TEXT, "dimensions": 32}).status_code == 200


@PATHS
@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": TEXT, "dimensions": 9}, "dimensions"),
        ({"input": TEXT, "layers": 3}, "layers"),
        ({"input": TEXT, "encoding_format": "hex"}, "encoding_format"),
        ({"input": 5}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": [10**9]}, "input"),
        ({}, "input"),
    ],
)
def test_errors_have_openais_shape_and_name_the_parameter(
    client: Client, path: str, body: dict[str, object], param: str
) -> None:
    error = refused(client.post(path, json=body), 400)
    assert error["param"] == param
    assert param in error["message"]


@PATHS
def test_the_wrong_method_answers_in_openais_shape(client: Client, path: str) -> None:
    assert refused(client.get(path), 405)["code"] == "method_not_supported"


def test_an_unknown_path_below_v1_answers_in_openais_shape(client: Client) -> None:
    assert refused(client.post("/v1/chat/completions", json={}), 404)["code"] == "unknown_url"


def test_the_served_model_is_listed(client: Client) -> None:
    body = client.get("/v1/models").json()
    assert body["object"] == "list"
    (model,) = body["data"]
    assert (model["id"], model["object"]) == ("tiny", "model")
    assert client.get("/v1/models/tiny").json() == model
    assert refused(client.get("/v1/models/other"), 404)["code"] == "model_not_found"
