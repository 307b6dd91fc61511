"""Types of output through the front door: as Cohere, Voyage and sentence-transformers define them."""

from __future__ import annotations

import shutil
from base64 import b64decode
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import numpy.typing as npt
import pytest
from sentence_transformers.util.quantization import quantize_embeddings

from strata.model_store.bundle.bundle import read_manifest, write_manifest
from strata.model_store.bundle.quality import Scored, Variant
from tests.conftest import RunningServer, ServerFactory

TEXTS = ["the river and the mountain", "winter", "A quiet morning train to Nairobi, always late."]
SIZES = {"float": 4, "int8": 1, "uint8": 1, "binary": 1, "ubinary": 1}
NUMPY = {"float": "<f4", "int8": "i1", "uint8": "u1", "binary": "i1", "ubinary": "u1"}


def floats(client: httpx.Client, **fields: Any) -> npt.NDArray[np.float32]:
    return np.array(client.post("/embed", json={"inputs": TEXTS, **fields}).json(), np.float32)


@pytest.fixture
def bundle_without_ranges(tiny_bundle: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    write_manifest(folder, read_manifest(folder).model_copy(update={"int8_ranges": None}))
    return folder


@pytest.fixture
def bundle_with_bits(tiny_bundle: Path, tmp_path: Path) -> Path:
    """Its bits keep half of what its floats keep."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    manifest = read_manifest(folder)
    assert manifest.quality
    halves = {
        name: Scored(scores={e: {d: score / 2 for d, score in row.items()} for e, row in each.scores.items()})
        for name, each in manifest.quality.sets.items()
    }
    bits = Variant(dtype="float32", output_type="binary", sets=halves)
    quality = manifest.quality.model_copy(update={"variants": (bits,)})
    write_manifest(folder, manifest.model_copy(update={"quality": quality}))
    return folder


@pytest.fixture(params=[{}, {"layers": 2, "dim": 16}], ids=["full", "cut"])
def where(request: pytest.FixtureRequest) -> dict[str, int]:
    return dict(request.param)


@pytest.mark.parametrize("kind", ["binary", "ubinary"])
def test_bits_are_those_of_sentence_transformers(
    client: httpx.Client, kind: Literal["binary", "ubinary"], where: dict[str, int]
) -> None:
    answer = client.post("/embed", json={"inputs": TEXTS, "output_dtype": kind, **where})
    expected: Any = quantize_embeddings(floats(client, **where), precision=kind)
    assert answer.json() == expected.tolist()
    assert answer.headers["x-strata-output-dtype"] == kind


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_bytes_are_the_floats_by_the_range_that_is_told(client: httpx.Client, kind: str, where: dict[str, int]) -> None:
    answer = client.post("/embed", json={"inputs": TEXTS, "output_dtype": kind, **where})
    limit = float(answer.headers["x-strata-int8-range"])
    vectors = floats(client, **where)
    found = np.array(answer.json(), np.int16) - (128 if kind == "uint8" else 0)
    assert np.abs(found / 127 * limit - np.clip(vectors, -limit, limit)).max() <= limit / 127 * 0.51
    # sentence-transformers cuts off where we round, on steps that lie half of one lower.
    both = np.stack([np.full(vectors.shape[1], -limit), np.full(vectors.shape[1], limit)])
    theirs: Any = quantize_embeddings(np.clip(vectors, -limit, limit), precision="int8", ranges=both)
    assert np.abs(np.asarray(theirs, np.int16) - found).max() <= 2


@pytest.mark.parametrize("kind", list(SIZES))
@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings"])
def test_lists_base64_and_bytes_say_the_same(client: httpx.Client, kind: str, path: str) -> None:
    body = {"inputs": TEXTS, "input": TEXTS, "output_dtype": kind, "layers": 2}

    def rows(**fields: Any) -> list[Any]:
        content = client.post(path, json={**body, **fields}).json()
        return [item["embedding"] for item in content["data"]] if path == "/v1/embeddings" else content

    lists = np.array(rows())
    decoded = [np.frombuffer(b64decode(row), NUMPY[kind]) for row in rows(encoding_format="base64")]
    assert np.array_equal(np.array(decoded).astype(np.float32), lists.astype(np.float32))
    if path == "/embed":
        raw = client.post(path, json=body, headers={"Accept": "application/octet-stream"})
        shape = tuple(map(int, raw.headers["x-strata-shape"].split(",")))
        assert len(raw.content) == shape[0] * shape[1] * SIZES[kind]
        found = np.frombuffer(raw.content, NUMPY[kind]).reshape(shape)
        assert np.array_equal(found.astype(np.float32), lists.astype(np.float32))


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings", "/v2/embed"])
def test_a_client_that_fixes_the_body_says_the_type_elsewhere(client: httpx.Client, path: str) -> None:
    body = {"inputs": "river", "input": "river"} if path != "/v2/embed" else {"texts": ["river"]}
    asked = [
        client.post(path, json=body, params={"output_dtype": "ubinary"}),
        client.post(path, json=body, headers={"X-Strata-Output-Dtype": "ubinary"}),
        client.post(path, json={**body, "output_dtype": "ubinary"}),
    ]
    for answer in asked:
        assert (answer.status_code, answer.headers["x-strata-output-dtype"]) == (200, "ubinary")
    contents = [answer.json() for answer in asked]
    vectors = [content["embeddings"] if path == "/v2/embed" else content for content in contents]
    assert path == "/v1/embeddings" or vectors[0] == vectors[1] == vectors[2]


def test_two_places_that_differ_about_the_type_are_refused(client: httpx.Client) -> None:
    for path, body in (
        ("/embed", {"inputs": "river", "output_dtype": "int8"}),
        ("/v2/embed", {"texts": ["river"], "embedding_types": ["int8", "float"]}),
    ):
        refused = client.post(path, json=body, params={"output_dtype": "binary"})
        assert refused.status_code in (400, 422)
        assert "output_dtype" in refused.text
    assert client.post("/embed?output_dtype=int4", json={"inputs": "river"}).status_code == 422
    assert "`output_dtype`" in client.post("/embed?precision=int8", json={"inputs": "river"}).json()["error"]
    scores = {"inputs": {"source_sentence": "a", "sentences": ["b"]}}
    assert "of vectors" in client.post("/similarity?output_dtype=int8", json=scores).json()["error"]


@pytest.mark.parametrize("field", ["dim", "dimensions", "output_dimension"])
def test_the_length_has_three_names(client: httpx.Client, field: str) -> None:
    for path in ("/embed", "/v1/embeddings"):
        answer = client.post(path, json={"inputs": "river", "input": "river", field: 8})
        assert answer.headers["x-strata-dim"] == "8"
    wrong = client.post("/embed", json={"inputs": "river", field: 9})
    assert wrong.status_code == 422


@pytest.mark.parametrize("fields", [{"output_dtype": "int4"}, {"output_dtype": "int8", "normalize": False}])
def test_a_type_that_cannot_be_is_refused_by_name(client: httpx.Client, fields: dict[str, Any]) -> None:
    refused = client.post("/v1/embeddings", json={"input": "river", **fields})
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "output_dtype"


def test_a_model_without_ranges_refuses_int8_with_what_it_has(
    start_server: ServerFactory, bundle_without_ranges: Path
) -> None:
    client = start_server(bundle_without_ranges).client
    refused = client.post("/embed", json={"inputs": "river", "output_dtype": "int8"})
    assert refused.status_code == 422
    assert "strata profile" in refused.json()["error"]
    assert "float, binary, ubinary" in refused.json()["error"]
    assert client.post("/embed", json={"inputs": "river", "output_dtype": "ubinary"}).status_code == 200


def test_ranges_change_no_revision(tiny_bundle: Path, bundle_without_ranges: Path) -> None:
    assert read_manifest(tiny_bundle).revision == read_manifest(bundle_without_ranges).revision


def test_cohere_gets_several_types_of_one_run(client: httpx.Client) -> None:
    body: dict[str, Any] = {
        "model": "embed-v4.0",
        "texts": TEXTS,
        "input_type": "classification",
        "embedding_types": ["float", "int8", "uint8", "binary", "ubinary", "base64"],
        "output_dimension": 16,
        "layers": 2,
    }
    answer = client.post("/v2/embed", json=body)
    content = answer.json()
    assert answer.headers["x-strata-layers"] == "2"
    assert content["texts"] == TEXTS
    assert content["response_type"] == "embeddings_by_type"
    assert content["meta"]["billed_units"]["input_tokens"] > len(TEXTS)
    assert set(content["embeddings"]) == set(body["embedding_types"])
    vectors = floats(client, layers=2, dim=16)
    np.testing.assert_allclose(content["embeddings"]["float"], vectors, atol=1e-6)
    for kind in ("int8", "uint8", "binary", "ubinary"):
        alone = client.post("/embed", json={"inputs": TEXTS, "layers": 2, "dim": 16, "output_dtype": kind}).json()
        assert content["embeddings"][kind] == alone
    assert np.frombuffer(b64decode(content["embeddings"]["base64"][1]), "<f4") == pytest.approx(vectors[1], abs=1e-6)


def test_coheres_words_for_what_a_text_is_pick_the_models_prompts(client: httpx.Client) -> None:
    for theirs, ours in (("search_query", {"input_type": "query"}), ("search_document", {"input_type": "document"})):
        given = client.post("/v2/embed", json={"texts": TEXTS, "input_type": theirs}).json()["embeddings"]["float"]
        np.testing.assert_allclose(given, floats(client, **ours), atol=1e-6)
    nested = {"inputs": [{"content": [{"type": "text", "text": text}]} for text in TEXTS]}
    given = client.post("/v2/embed", json=nested).json()["embeddings"]["float"]
    np.testing.assert_allclose(given, floats(client), atol=1e-6)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"texts": []}, "texts"),
        ({}, "`texts` must be given"),
        ({"images": ["data:image/png;base64,"]}, "this model embeds texts"),
        ({"texts": ["a"], "input_type": "image"}, "`input_type`: images are not embedded"),
        ({"texts": ["a"], "input_type": "other"}, "input_type"),
        ({"texts": ["a"], "max_tokens": 5}, "`max_tokens`: texts are cut at"),
        ({"texts": ["a"], "embedding_types": ["int4"]}, "embedding_types"),
        ({"texts": ["a"], "truncate": "MIDDLE"}, "truncate"),
        ({"texts": ["river " * 400], "truncate": "NONE"}, "must have less than"),
        ({"texts": ["a"], "truncate_dim": 8}, "the name is `dim`"),
        ({"inputs": [{"content": [{"type": "image_url"}]}]}, "inputs[0]"),
    ],
)
def test_cohere_is_refused_in_its_own_shape(client: httpx.Client, body: dict[str, Any], told: str) -> None:
    answer = client.post("/v2/embed", json=body)
    assert answer.status_code == 400
    assert told in answer.json()["message"]


MISSPELT = {
    "layer": "layers",
    "num_layers": "layers",
    "target_layer": "layers",
    "Layers": "layers",
    "exit_layer": "layers",
    "truncate_dim": "dim",
    "embedding_dim": "dim",
    "dimension": "dim",
    "budgetMs": "budget_ms",
    "budget": "budget_ms",
    "min_qualty": "min_quality",
    "minLayers": "min_layers",
    "minlayer": "min_layers",
}


@pytest.mark.parametrize(("wrong", "right"), MISSPELT.items())
def test_a_misspelt_option_is_refused_with_its_name(client: httpx.Client, wrong: str, right: str) -> None:
    told = f"`{wrong}` is no option here; the name is `{right}`"
    for path, status in (("/embed", 422), ("/v1/embeddings", 400)):
        answer = client.post(path, json={"inputs": "river", "input": "river", wrong: 2})
        assert answer.status_code == status
        assert told in answer.text
    assert told in client.post(f"/embed?{wrong}=2", json={"inputs": "river"}).text
    if wrong.lower() != right:  # headers have no case
        header = client.post("/embed", json={"inputs": "river"}, headers={f"X-Strata-{wrong.replace('_', '-')}": "2"})
        assert (header.status_code, f"the name is `{right}`" in header.text) == (422, True)


@pytest.mark.parametrize(
    ("path", "fields", "field"),
    [
        ("/embed", {"embedding_types": ["int8"]}, "embedding_types"),
        ("/v1/embeddings", {"embedding_types": ["int8"]}, "embedding_types"),
        ("/v2/embed", {"normalize": False}, "normalize"),
        ("/v2/embed", {"encoding_format": "base64"}, "encoding_format"),
        ("/embed", {"truncation": False}, "truncation"),
        ("/embed", {"parameters": {"layers": 2}}, "parameters.layers"),
        ("/v2/embed", {"texts": None, "inputs": [{"content": ["a", {"type": "text", "text": "b"}]}]}, "inputs[0]"),
        ("/v2/embed", {"texts": None, "inputs": [{"content": [{"type": "image_url", "text": "b"}]}]}, "inputs[0]"),
        ("/v2/embed", {"input_type": "search"}, "search_query, search_document, classification"),
    ],
)
def test_what_would_be_dropped_without_a_word_is_refused(
    client: httpx.Client, path: str, fields: dict[str, Any], field: str
) -> None:
    given = {"inputs": "river"} if path == "/embed" else {"input": "river"}
    answer = client.post(path, json=given | texts(path) | fields)
    assert answer.status_code in (400, 422)
    assert field in answer.text


def test_what_is_so_anyway_may_be_asked_for(client: httpx.Client) -> None:
    asked = {"normalize": True, "encoding_format": "float", "embedding_types": ["float"], "prompt_name": None}
    for path in ("/embed", "/v1/embeddings", "/v2/embed"):
        given = {"inputs": "river"} if path == "/embed" else {"input": "river"}
        answer = client.post(path, json=given | texts(path) | asked)
        assert answer.status_code == 200, answer.text


def test_other_unknown_fields_are_accepted(client: httpx.Client) -> None:
    fields = {
        "timeout": 600,
        "metadata": {"a": 1},
        "service_tier": "auto",
        "extra_body": {},
        "custom_llm_provider": "x",
    }
    fields |= {"drop_params": True, "max_retries": 2, "priority": 1, "model_id": "m", "user_id": "u", "text_type": "q"}
    fields |= {"truncate_prompt_tokens": None, "add_special_tokens": True, "parameters": {}, "raw_scores": False}
    for path in ("/embed", "/v1/embeddings", "/v2/embed"):
        answer = client.post(path, json={"inputs" if path == "/embed" else "input": "river", **fields} | texts(path))
        assert answer.status_code == 200, answer.text
    assert client.post("/embed?utm_source=x&v=2", json={"inputs": "river"}).status_code == 200


def texts(path: str) -> dict[str, Any]:
    return {"texts": ["river"]} if path == "/v2/embed" else {}


def test_the_text_options_of_embed_work_on_openais_path(client: httpx.Client) -> None:
    def openai(**fields: Any) -> Any:
        content = client.post("/v1/embeddings", json={"input": TEXTS, **fields}).json()
        return np.array([item["embedding"] for item in content["data"]])

    for fields in ({"prompt_name": "query"}, {"normalize": False}, {"truncation_direction": "Left"}):
        np.testing.assert_allclose(openai(**fields), floats(client, **fields), atol=1e-6)
    assert not np.allclose(openai(prompt_name="query"), openai())
    long = " ".join(f"river{n} mountain" for n in range(200))
    for field in ("truncate", "truncation"):
        refused = client.post("/v1/embeddings", json={"input": long, field: False})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "input")
        assert client.post("/v1/embeddings", json={"input": long, field: True}).status_code == 200
    left = client.post("/v1/embeddings", json={"input": long, "truncate": "START"}).json()["data"][0]["embedding"]
    also = client.post("/embed", json={"inputs": long, "truncation_direction": "Left"}).json()[0]
    np.testing.assert_allclose(left, also, atol=1e-6)
    unknown = client.post("/v1/embeddings", json={"input": "a", "prompt_name": "nobody"})
    assert unknown.json()["error"]["param"] == "prompt_name"


def test_ids_of_another_vocabulary_are_refused_with_the_way_out(server: RunningServer) -> None:
    answer = server.client.post("/v1/embeddings", json={"input": [[9906, 11, 1917], [100_256]]})
    assert answer.status_code == 400
    assert "check_embedding_ctx_length=False" in answer.json()["error"]["message"]


def test_quality_is_that_of_the_type_that_is_told(start_server: ServerFactory, bundle_with_bits: Path) -> None:
    client = start_server(bundle_with_bits).client
    body = {"inputs": "river"}
    for kind, share in (("float", 70 / 80), ("binary", 35 / 80), ("ubinary", 35 / 80)):
        answer = client.post("/embed", json=body, params={"output_dtype": kind, "layers": 2})
        assert answer.headers["x-strata-quality"] == f"{share:.4f}"
        plan = client.get("/plan", params={"output_dtype": kind, "layers": 2}).json()
        assert (plan["plan"]["quality"], plan["terms"]["output_dtype"]) == (round(share, 4), kind)
        assert {each["layers"]: each["quality"] for each in plan["alternatives"]}[2] == round(share, 4)
    assert (
        client.post("/embed", json=body, params={"output_dtype": "ubinary", "min_quality": 0.45}).headers[
            "x-strata-layers"
        ]
        == "4"
    ), "of bits 2 layers keep 0.4375, 4 keep 0.5"
    refused = client.post("/embed", json=body, params={"output_dtype": "ubinary", "min_quality": 0.8})
    assert refused.status_code == 422
    assert "at 32 dims as ubinary: the best of the exits allowed has 0.5000" in refused.json()["error"]
    # Of several types the least counts; and what was not measured has no figure and no floor.
    several = {"texts": ["river"], "embedding_types": ["float", "ubinary"], "layers": 2}
    assert client.post("/v2/embed", json=several).headers["x-strata-quality"] == "0.4375"
    unknown = client.post("/embed", json={**body, "output_dtype": "int8"})
    assert unknown.status_code == 200
    assert "x-strata-quality" not in unknown.headers
    refused = client.post("/embed", json={**body, "output_dtype": "int8", "min_quality": 0.5})
    assert (refused.status_code, "not measured" in refused.json()["error"]) == (422, True)


def test_what_127_stands_for_is_told_beside_other_types(client: httpx.Client) -> None:
    for kinds in (["int8", "float"], ["uint8", "int8"], ["ubinary", "int8"]):
        answer = client.post("/v2/embed", json={"texts": TEXTS, "embedding_types": kinds})
        assert float(answer.headers["x-strata-int8-range"]) == 0.5
    assert "x-strata-int8-range" not in client.post("/v2/embed", json={"texts": TEXTS}).headers
