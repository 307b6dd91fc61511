"""`POST /embed`: text-embeddings-inference's contract, with layers and dim."""

from __future__ import annotations

import numpy as np
import pytest
from httpx import Client, Response

TEXT = "the river and the mountain"


def vectors(response: Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    return np.array(response.json(), dtype=np.float32)


def refused(response: Response, status: int, error_type: str = "Validation") -> str:
    body = response.json()
    assert (response.status_code, body["error_type"]) == (status, error_type), response.text
    assert set(body) == {"error", "error_type"}
    return str(body["error"])


def embed(client: Client, inputs: object, **fields: object) -> np.ndarray:
    return vectors(client.post("/embed", json={"inputs": inputs, **fields}))


def test_one_text_and_many_are_a_list_of_lists(client: Client) -> None:
    assert embed(client, TEXT).shape == (1, 32)
    assert embed(client, [TEXT]).shape == (1, 32)
    assert embed(client, [TEXT, "winter", "bread and coffee"]).shape == (3, 32)


def test_nothing_asked_means_full_depth_and_full_length(client: Client) -> None:
    response = client.post("/embed", json={"inputs": TEXT})
    assert (response.headers["x-strata-layers"], response.headers["x-strata-dim"]) == ("4", "32")
    assert response.headers["x-strata-dtype"] == client.get("/info").json()["model_dtype"]
    assert response.headers["x-strata-quality"] == "1.0000"


@pytest.mark.parametrize("layers", [1, 2, 4])
@pytest.mark.parametrize("dim", [8, 16, 32])
def test_the_headers_say_what_was_run(client: Client, layers: int, dim: int) -> None:
    response = client.post("/embed", params={"layers": layers, "dim": dim}, json={"inputs": TEXT})
    assert vectors(response).shape == (1, dim)
    assert response.headers["x-strata-layers"] == str(layers)
    assert response.headers["x-strata-dim"] == str(dim)


def test_depths_give_different_vectors_and_dims_the_beginning_of_the_same(client: Client) -> None:
    shallow, deep = embed(client, TEXT, layers=1), embed(client, TEXT, layers=4)
    assert np.abs(shallow - deep).max() > 0.01
    cut = deep[:, :8] / np.linalg.norm(deep[:, :8])
    np.testing.assert_allclose(embed(client, TEXT, dim=8), cut, atol=1e-5)


def test_query_body_and_tei_names_mean_the_same(client: Client) -> None:
    expected = embed(client, TEXT, layers=2, dim=16)
    in_query = vectors(client.post("/embed?layers=2&dim=16", json={"inputs": TEXT}))
    mixed = vectors(client.post("/embed?layers=2", json={"inputs": TEXT, "dimensions": 16}))
    both = vectors(
        client.post("/embed?layers=2&dim=16", json={"inputs": TEXT, "layers": 2, "dimensions": 16, "dim": 16})
    )
    for same in (in_query, mixed, both):
        np.testing.assert_allclose(same, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("query", "body", "field"),
    [
        ("?layers=2", {"layers": 4}, "layers"),
        ("?dim=8", {"dim": 16}, "dim"),
        ("?dim=8", {"dimensions": 16}, "dim"),
        ("", {"dim": 8, "dimensions": 16}, "dim"),
        ("?layers=2&layers=4", {}, "layers"),
    ],
)
def test_given_twice_and_different_is_refused(client: Client, query: str, body: dict[str, int], field: str) -> None:
    message = refused(client.post("/embed" + query, json={"inputs": TEXT, **body}), 422)
    assert f"`{field}` is given twice" in message


@pytest.mark.parametrize(
    ("asked", "field", "allowed"),
    [
        ({"layers": 3}, "layers", "1, 2, 4"),
        ({"layers": 0}, "layers", "1, 2, 4"),
        ({"layers": -1}, "layers", "1, 2, 4"),
        ({"dim": 9}, "dim", "8, 16, 32"),
        ({"dimensions": 64}, "dim", "8, 16, 32"),
    ],
)
def test_untrained_depth_or_dim_is_refused_with_the_allowed_values(
    client: Client, asked: dict[str, int], field: str, allowed: str
) -> None:
    message = refused(client.post("/embed", json={"inputs": TEXT, **asked}), 422)
    assert field in message
    assert allowed in message


@pytest.mark.parametrize("query", ["layers=two", "layers=", "dim=8.0", "layers=%2D1", "dim=99999999999999999999"])
def test_a_parameter_that_is_no_whole_number_is_named(client: Client, query: str) -> None:
    assert query.split("=")[0] in refused(client.post(f"/embed?{query}", json={"inputs": TEXT}), 422)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "inputs"),
        ({"inputs": 5}, "inputs"),
        ({"inputs": None}, "inputs"),
        ({"inputs": ["a", 1]}, "inputs"),
        ({"inputs": [1.5]}, "inputs"),
        ({"inputs": [[1, "a"]]}, "inputs"),
        ({"inputs": {"text": "a"}}, "inputs"),
        ({"inputs": "a", "layers": "2"}, "layers"),
        ({"inputs": "a", "layers": 2.0}, "layers"),
        ({"inputs": "a", "dim": True}, "dim"),
        ({"inputs": "a", "truncate": "yes"}, "truncate"),
        ({"inputs": "a", "normalize": 1}, "normalize"),
        ({"inputs": "a", "truncation_direction": "Up"}, "truncation_direction"),
    ],
)
def test_a_wrong_type_is_refused_naming_the_field(client: Client, body: dict[str, object], field: str) -> None:
    assert f"`{field}`" in refused(client.post("/embed", json=body), 422)


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'"text"', b'{"inputs": "\\ud800"}', b"[" * 100_000, b"\xff\xfe"])
def test_a_body_that_is_not_the_expected_json_is_refused(client: Client, raw: bytes) -> None:
    refused(client.post("/embed", content=raw), 422)


@pytest.mark.parametrize("inputs", ["", [], ["a", ""], [[]], [[5], []]])
def test_empty_inputs_are_refused_as_tei_does(client: Client, inputs: object) -> None:
    assert "cannot be empty" in refused(client.post("/embed", json={"inputs": inputs}), 400, "Empty")


def test_unknown_fields_and_nulls_are_ignored(client: Client) -> None:
    body = {"inputs": TEXT, "truncate": None, "prompt_name": None, "dimensions": None, "layers": None, "new": {"a": 1}}
    assert vectors(client.post("/embed", json=body)).shape == (1, 32)


def test_normalize_false_keeps_the_length(client: Client) -> None:
    plain, unit = embed(client, TEXT, normalize=False), embed(client, TEXT)
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(plain) != pytest.approx(1, abs=1e-2)
    np.testing.assert_allclose(plain / np.linalg.norm(plain), unit, atol=1e-5)


def test_octet_stream_is_the_same_floats(client: Client) -> None:
    body = {"inputs": [TEXT, "winter"], "dim": 16}
    raw = client.post("/embed", json=body, headers={"Accept": "application/octet-stream"})
    assert raw.headers["content-type"] == "application/octet-stream"
    assert raw.headers["x-strata-shape"] == "2,16"
    found = np.frombuffer(raw.content, dtype="<f4").reshape(2, 16)
    np.testing.assert_allclose(found, vectors(client.post("/embed", json=body)), atol=1e-6)


def tokens(client: Client, text: str) -> list[int]:
    return [token["id"] for token in client.post("/tokenize", json={"inputs": text}).json()[0]]


def test_token_ids_are_taken_as_they_are(client: Client) -> None:
    ids = tokens(client, TEXT)
    np.testing.assert_allclose(embed(client, ids), embed(client, TEXT), atol=1e-5)
    np.testing.assert_allclose(embed(client, [ids, ids[:3]])[0], embed(client, TEXT)[0], atol=1e-5)
    assert client.post("/embed", json={"inputs": ids}).headers["x-compute-tokens"] == str(len(ids))


@pytest.mark.parametrize("wrong", [-1, 1_000_000, 2**31, 10**30])
def test_token_ids_outside_the_vocabulary_are_refused(client: Client, wrong: int) -> None:
    assert "token ids must be between" in refused(client.post("/embed", json={"inputs": [5, wrong]}), 422)


def test_too_long_is_cut_on_the_side_asked_for(client: Client) -> None:
    words = [f"{word} {word}" for word in ("river", "window", "coffee", "paper")]
    text = " ".join(words * 60)
    ids = tokens(client, text)
    assert len(ids) > 160
    right = embed(client, ids[:159] + ids[-1:])
    left = embed(client, ids[:1] + ids[-159:])
    np.testing.assert_allclose(embed(client, text), right, atol=1e-5)
    np.testing.assert_allclose(embed(client, text, truncation_direction="Left"), left, atol=1e-5)
    assert np.abs(right - left).max() > 1e-4


def test_too_long_is_refused_where_truncation_is_forbidden(client: Client) -> None:
    text = "river " * 300
    message = refused(client.post("/embed", json={"inputs": text, "truncate": False}), 422)
    assert message == f"`inputs` must have less than 160 tokens. Given: {len(tokens(client, text))}"
    message = refused(client.post("/embed", json={"inputs": [5] * 161, "truncate": False}), 422)
    assert message == "`inputs` must have less than 160 tokens. Given: 161"
    message = refused(client.post("/embed", json={"inputs": ["river", text], "truncate": False}), 422)
    assert message.startswith("`inputs[1]` must have less than 160 tokens")
    assert embed(client, [5] * 161).shape == (1, 32)


def test_how_many_texts_were_cut_is_told(client: Client) -> None:
    text = "river " * 300
    for inputs, cut in (([text, "river", text], "2"), ([[5] * 161, [5] * 160], "1"), (text, "1"), (["river"], None)):
        assert client.post("/embed", json={"inputs": inputs}).headers.get("x-strata-truncated") == cut
    assert client.post("/v1/embeddings", json={"input": [text]}).headers["x-strata-truncated"] == "1"


def test_a_prompt_goes_before_every_text(client: Client) -> None:
    with_prompt = embed(client, [TEXT, "winter"], prompt_name="query")
    np.testing.assert_allclose(with_prompt[0], embed(client, "question the answer " + TEXT)[0], atol=1e-5)
    np.testing.assert_allclose(with_prompt[1], embed(client, "question the answer winter")[0], atol=1e-5)
    message = refused(client.post("/embed", json={"inputs": TEXT, "prompt_name": "nope"}), 422)
    assert "passage, query" in message


def test_the_headers_tell_where_the_time_went(client: Client) -> None:
    headers = client.post("/embed", json={"inputs": TEXT}).headers
    for name in ("compute-time", "total-time", "tokenization-time", "queue-time", "inference-time"):
        assert headers[f"x-{name}"].isdigit()
    assert headers["x-compute-characters"] == str(len(TEXT))
    assert headers["x-compute-tokens"] == str(len(tokens(client, TEXT)))
    assert headers["x-compute-type"] == "cpu"
    stages = dict(part.strip().split(";dur=") for part in headers["server-timing"].split(","))
    parts = ("receive", "tokenize", "queue", "inference")
    assert set(stages) == {*parts, "total"}
    assert sum(float(stages[stage]) for stage in parts) <= float(stages["total"]) + 0.1
    assert headers["x-strata-model"].startswith("tiny@")


def test_the_bare_address_embeds_too(client: Client) -> None:
    np.testing.assert_allclose(vectors(client.post("/", json={"inputs": TEXT})), embed(client, TEXT), atol=1e-5)


def test_other_methods_and_paths_answer_in_teis_shape(client: Client) -> None:
    refused(client.get("/embed"), 405)
    assert client.get("/embed").headers["allow"] == "POST"
    refused(client.post("/nowhere"), 404)
