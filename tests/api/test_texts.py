"""`/tokenize`, `/decode` and `/similarity`."""

from __future__ import annotations

import numpy as np
import pytest
from httpx import Client


def test_tokens_say_where_they_lie_in_the_text_in_bytes(client: Client) -> None:
    text = "café naïve river"
    (tokens,) = client.post("/tokenize", json={"inputs": text}).json()
    assert set(tokens[0]) == {"id", "text", "special", "start", "stop"}
    assert [token["special"] for token in tokens] == [True, *[False] * (len(tokens) - 2), True]
    assert (tokens[0]["text"], tokens[0]["start"], tokens[0]["stop"]) == ("[CLS]", None, None)
    for token in tokens[1:-1]:
        assert text.encode()[token["start"] : token["stop"]].decode() == token["text"]


def test_special_tokens_and_prompts_are_the_callers_choice(client: Client) -> None:
    (bare,) = client.post("/tokenize", json={"inputs": ["river"], "add_special_tokens": False}).json()
    assert not any(token["special"] for token in bare)
    (prompted,) = client.post("/tokenize", json={"inputs": "river", "prompt_name": "query"}).json()
    assert len(prompted) > len(bare) + 2


def test_decode_turns_ids_back_into_text(client: Client) -> None:
    rows = client.post("/tokenize", json={"inputs": ["river and train", "bread"]}).json()
    ids = [[token["id"] for token in row] for row in rows]
    assert client.post("/decode", json={"ids": ids}).json() == ["river and train", "bread"]
    assert client.post("/decode", json={"ids": ids[1]}).json() == ["bread"]
    kept = client.post("/decode", json={"ids": ids[1], "skip_special_tokens": False}).json()[0]
    assert kept.startswith("[CLS]")
    assert client.post("/decode", json={"ids": [10**9]}).status_code == 422


def test_wrong_shapes_are_told_as_one(client: Client) -> None:
    for path, body, told in (
        ("/decode", {"ids": ["a"]}, "`ids`: must be a list of token ids or a list of lists of token ids"),
        ("/tokenize", {"inputs": [1]}, "`inputs`: must be a string or a list of strings"),
    ):
        answer = client.post(path, json=body)
        assert (answer.status_code, answer.json()["error"]) == (422, told)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"sentences": ["a", ""]}, "`inputs.sentences[1]` cannot be empty"),
        ({"source_sentence": ""}, "`inputs.source_sentence` cannot be empty"),
        ({"layers": 2}, "`inputs.layers`: `layers` is given beside `inputs`, not within it"),
    ],
)
def test_similarity_names_what_is_wrong_by_its_place(client: Client, body: dict[str, object], told: str) -> None:
    inputs = {"source_sentence": "a", "sentences": ["b"], **body}
    assert client.post("/similarity", json={"inputs": inputs}).json()["error"] == told


def test_similarity_is_the_cosine_at_one_depth(client: Client) -> None:
    source, sentences = "the river", ["the river", "a train station", "winter bread"]
    response = client.post(
        "/similarity", json={"inputs": {"source_sentence": source, "sentences": sentences}, "layers": 2, "dim": 16}
    )
    assert response.status_code == 200
    vectors = np.array(client.post("/embed", json={"inputs": [source, *sentences], "layers": 2, "dim": 16}).json())
    np.testing.assert_allclose(response.json(), vectors[1:] @ vectors[0], atol=1e-5)
    assert response.json()[0] == pytest.approx(1, abs=1e-5)
    assert response.headers["x-strata-layers"] == "2"


@pytest.mark.parametrize(
    ("inputs", "status"),
    [
        ({"source_sentence": "a", "sentences": []}, 400),
        ({"source_sentence": "", "sentences": ["a"]}, 400),
        ({"source_sentence": "a"}, 422),
        ({"source_sentence": "a", "sentences": "b"}, 422),
        ("a", 422),
    ],
)
def test_malformed_comparisons_are_refused(client: Client, inputs: object, status: int) -> None:
    response = client.post("/similarity", json={"inputs": inputs})
    assert response.status_code == status
    assert set(response.json()) == {"error", "error_type"}


@pytest.mark.parametrize(
    ("method", "path", "body", "told"),
    [
        ("POST", "/tokenize?layers=3", {"inputs": "a"}, "`layers` is no option here: no text is embedded"),
        (
            "POST",
            "/tokenize?add_special_tokens=false",
            {"inputs": "a"},
            "`add_special_tokens` is read in the body alone",
        ),
        ("POST", "/tokenize", {"inputs": "a", "truncate": True}, "`truncate` is no option here: no text is embedded"),
        ("POST", "/decode?dims=3", {"ids": [5]}, "`dims` is no option here; the name is `dim`"),
        ("POST", "/decode", {"ids": [5], "layers": 3}, "`layers` is no option here: no text is embedded"),
        ("POST", "/similarity?normalize=false", {"inputs": {"source_sentence": "a", "sentences": ["b"]}}, "body alone"),
        ("POST", "/v2/embed?max_tokens=5", {"texts": ["a"]}, "`max_tokens` is read in the body alone"),
        ("GET", "/now?tier=default", None, "`tier` is no option here: no text is embedded"),
        ("GET", "/info?dim=16", None, "`dim` is no option here: no text is embedded"),
    ],
)
def test_options_where_nobody_reads_them_are_refused(
    client: Client, method: str, path: str, body: object, told: str
) -> None:
    response = client.request(method, path, json=body)
    assert response.status_code in (400, 422)
    assert told in response.text
    plain = path.partition("?")[0]
    asked = {"inputs": "a"} if plain == "/tokenize" else {"ids": [5]} if plain == "/decode" else body
    # Headers that a client has set are sent with all that it asks; names of somebody else's pass.
    answer = client.request(method, f"{plain}?trace=1", json=asked, headers={"X-Strata-Layers": "2"})
    assert answer.status_code == 200
