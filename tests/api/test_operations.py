"""What operators and their machines ask, and what the server says of itself."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from httpx import Client
from prometheus_client.parser import text_string_to_metric_families

from strata.model_store.bundle.bundle import read_manifest, write_manifest
from tests.conftest import RunningServer, ServerFactory


def series(client: Client) -> dict[str, float]:
    """Every sample of /metrics by name and labels, e.g. ``te_request_count{method="single"}``."""
    lines = client.get("/metrics").text.splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def test_health_and_ready_answer(client: Client) -> None:
    assert client.get("/health").status_code == 200
    assert client.get("/ready").json() == {"status": "ready"}


def test_info_has_teis_fields_and_ours(client: Client) -> None:
    info = client.get("/info").json()
    assert info["model_id"] == info["served_model_name"] == "tiny"
    assert info["model_type"] == {"embedding": {"pooling": "mean"}}
    assert info["model_dtype"] == "float32"
    assert info["max_input_length"] == 160
    for field in (
        "model_sha",
        "max_concurrent_requests",
        "max_batch_tokens",
        "max_batch_requests",
        "max_client_batch_size",
        "auto_truncate",
        "tokenization_workers",
        "version",
    ):
        assert field in info
    assert (info["exits"], info["dims"], info["layers"]) == ([1, 2, 4], [8, 16, 32], 4)
    assert info["warning"] is None
    assert info["quality"]["share_of"] == "tiny at full depth"
    assert info["quality"]["tasks"]["similarity"]["both_sides"]["2"]["16"] == {
        "share": pytest.approx(65 / 80, abs=1e-4),
        "worst": pytest.approx(65 / 80, abs=1e-4),
        "worst_set": "made up",
    }
    engine = info["engine"]
    assert (engine["backend"], engine["dtype"], engine["workers"], engine["threads"]) == (
        "onnxruntime",
        "float32",
        1,
        1,
    )
    assert engine["reason"]
    assert engine["candidates"][0]["backend"] == "onnxruntime"


def test_the_documentation_shows_every_body_and_answer(client: Client) -> None:
    assert client.get("/docs").status_code == 200
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/embed", "/v1/embeddings", "/similarity", "/tokenize"):
        operation = paths[path]["post"]
        body = operation["requestBody"]["content"]["application/json"]
        assert body["schema"]["properties"]
        assert body["examples"]
        assert "$defs" not in json.dumps(body)
        assert operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert "503" in operation["responses"] or path == "/tokenize"


def test_a_request_id_is_echoed_or_made(client: Client) -> None:
    given = client.get("/health", headers={"X-Request-Id": "abc-123"})
    assert given.headers["x-request-id"] == "abc-123"
    made = client.get("/health").headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{16}", made)
    assert client.get("/health", headers={"X-Request-Id": "x" * 500}).headers["x-request-id"] != "x" * 500
    assert client.post("/embed", content=b"{", headers={"X-Request-Id": "bad"}).headers["x-request-id"] == "bad"


def test_a_model_named_like_a_route_is_no_model(client: Client) -> None:
    assert client.get("/v1/models/%7Bname:path%7D").status_code == 404


def test_metrics_count_what_was_asked_and_run(client: Client) -> None:
    before = series(client)
    client.post("/embed", json={"inputs": ["river", "bread", "coffee"], "layers": 2, "dim": 16})
    client.post("/embed", json={"inputs": "river", "layers": 1})
    client.post("/embed", json={"inputs": "river", "layers": 3})
    after = series(client)

    def grew(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grew('te_request_count{method="batch"}') == 1
    assert grew('te_request_success{method="single"}') == 1
    assert grew('te_request_failure{err="validation"}') == 1
    assert grew("te_embed_success") == 4
    assert grew('strata_exit_layers_bucket{le="1.0"}') == 1
    assert grew('strata_exit_layers_bucket{le="2.0"}') == 4
    assert grew('strata_dim_bucket{le="16.0"}') == 3
    assert grew('strata_tier_queue_seconds_count{tier="default"}') == 2
    assert grew("te_request_duration_count") == 2
    assert sum(grew(name) for name in after if name.startswith("strata_inference_seconds_count")) >= 1
    assert after["strata_ready"] == 1
    assert after['strata_process_resident_bytes{process="front"}'] > 10_000_000
    assert sum(name.startswith("strata_process_resident_bytes") for name in after) >= 2
    assert any(name.startswith("strata_build_info{") and 'model="tiny"' in name for name in after)


def test_metrics_are_valid_prometheus_text_under_teis_names(client: Client) -> None:
    text = client.get("/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name in (
        "te_request_count",
        "te_request_success",
        "te_request_duration",
        "te_request_tokenization_duration",
        "te_request_queue_duration",
        "te_request_inference_duration",
        "te_batch_next_size",
        "te_batch_next_tokens",
        "te_queue_size",
        "strata_batch_texts",
        "strata_batch_tokens",
        "strata_padded_tokens",
        "strata_worker_restarts",
    ):
        assert name in families, name
    assert "te_request_count_total" not in text


def test_the_log_has_one_line_a_request_and_never_its_texts(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, "--log-format", "json")
    headers = {"X-Request-Id": "find-me"}
    server.client.post("/embed?layers=2", json={"inputs": ["secret river", "bread"]}, headers=headers)
    server.await_logged("find-me")
    lines = [json.loads(line) for line in server.text().splitlines()]
    (line,) = [line for line in lines if line.get("id") == "find-me"]
    assert line["event"] == "request"
    assert (line["method"], line["path"], line["status"]) == ("POST", "/embed", 200)
    assert (line["layers"], line["dim"], line["texts"]) == (2, 32, 2)
    assert line["tokens"] > 4
    assert line["ms"] > 0
    assert "secret" not in server.text()
    assert {"listening", "ready"} <= {line["event"] for line in lines}


def test_a_model_trained_at_full_depth_only_says_so_loudly(
    start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "full-depth"
    folder.mkdir()
    for file in tiny_bundle.rglob("*"):
        if file.is_file():
            target = folder / file.relative_to(tiny_bundle)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.read_bytes())
    write_manifest(folder, read_manifest(tiny_bundle).model_copy(update={"exits": (4,), "quality": None}))
    server = start_server(folder, "--allow-untrained")
    assert "ONLY FULL DEPTH IS TRAINED" in server.client.get("/info").json()["warning"]
    assert "ONLY FULL DEPTH IS TRAINED" in server.text()
    answer = server.client.post("/embed?layers=3&dim=5", json={"inputs": "river"})
    assert answer.status_code == 200
    assert (answer.headers["x-strata-layers"], answer.headers["x-strata-dim"]) == ("3", "5")
    assert "x-strata-quality" not in answer.headers


@pytest.mark.parametrize("name", ["tokenizer.json", "model.safetensors"])
def test_a_bundle_with_a_wrong_checksum_ends_the_server_and_the_log_names_the_file(
    start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "damaged"))
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    server = start_server(folder, ready=False)
    assert server.process.wait(timeout=30) == 1
    assert f"{folder / name}: its sha256 differs from the manifest's" in server.text()


def test_the_server_listens_on_this_machine_only(server: RunningServer) -> None:
    assert server.url.startswith("http://127.0.0.1:")
