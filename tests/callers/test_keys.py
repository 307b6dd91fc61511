"""Keys and tiers through the front door: who comes in, on which tier, how often, and what stays secret."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from tests.callers.hashes import hashed
from tests.conftest import RunningServer, ServerFactory

TEXT = "the river and the mountain"
GOLD, BULK = "sk-test-gold-0123456789", "sk-test-bulk-0123456789"


TIERS = f"""
[[tier]]
name = "gold"
deadline_ms = 60000
min_layers = 2
keys = ["{hashed(GOLD)}"]
[[tier]]
name = "bulk"
min_quality = 0.8
rate = 5
burst = 10
keys = ["{hashed(BULK)}"]
"""


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def embed(server: RunningServer, key: str | None, texts: int = 1, **fields: object) -> httpx.Response:
    headers = bearer(key) if key else {}
    return server.client.post("/embed", json={"inputs": [TEXT] * texts, **fields}, headers=headers)


def strata(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "strata.app.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def tiers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiers") / "tiers.toml"
    path.write_text(TIERS)
    return path


@pytest.fixture(scope="module")
def guarded(start_session_server: ServerFactory, tiny_bundle: Path, tiers: Path) -> RunningServer:
    return start_session_server(tiny_bundle, "--tiers", str(tiers))


def test_a_key_brings_its_tiers_deadline_and_floor(guarded: RunningServer) -> None:
    gold, bulk = embed(guarded, GOLD), embed(guarded, BULK)
    assert (gold.headers["x-strata-tier"], gold.headers["x-strata-layers"]) == ("gold", "4")
    assert float(gold.headers["x-strata-slack-ms"]) > 0
    assert (bulk.headers["x-strata-tier"], bulk.headers["x-strata-layers"]) == ("bulk", "2")
    assert "x-strata-slack-ms" not in bulk.headers
    below = embed(guarded, GOLD, layers=1)
    assert below.status_code == 422
    assert "tier `gold`" in below.json()["error"]


def test_a_lower_tier_may_be_asked_for_and_a_higher_one_never(guarded: RunningServer) -> None:
    assert embed(guarded, GOLD, tier="bulk").headers["x-strata-tier"] == "bulk"
    refused = embed(guarded, BULK, tier="gold")
    assert (refused.status_code, refused.json()["error_type"]) == (403, "Forbidden")
    assert "must be one of bulk" in refused.json()["error"]
    assert embed(guarded, GOLD, tier="platinum").status_code == 422


@pytest.mark.parametrize("path", ["/embed", "/v1/embeddings", "/similarity", "/tokenize", "/decode", "/nowhere", "/"])
def test_without_a_known_key_nothing_is_done(guarded: RunningServer, path: str) -> None:
    for headers in ({}, bearer("sk-wrong"), {"Authorization": f"Basic {GOLD}"}):
        response = guarded.client.post(path, json={"inputs": TEXT}, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"].startswith("Bearer")
        error = response.json()["error"]
        assert (error["code"] if path == "/v1/embeddings" else response.json()["error_type"]) in (
            "invalid_api_key",
            "Unauthorized",
        )


def test_health_and_ready_are_open_and_the_rest_is_not(guarded: RunningServer) -> None:
    for path in ("/health", "/ready"):
        assert guarded.client.get(path).status_code == 200
    for path in ("/docs", "/openapi.json"):  # a browser sends no key before the page can ask for one
        assert guarded.client.get(path).status_code == 200
    for path in ("/metrics", "/info", "/plan", "/v1/models"):
        assert guarded.client.get(path).status_code == 401
        assert guarded.client.get(path, headers=bearer(BULK)).status_code == 200


def test_beyond_its_rate_a_key_is_told_when_to_come_back(
    start_server: ServerFactory, tiny_bundle: Path, tiers: Path
) -> None:
    server = start_server(tiny_bundle, "--tiers", str(tiers))
    assert embed(server, BULK, texts=10).status_code == 200
    over = embed(server, BULK, texts=8)
    assert over.status_code == 429
    assert "5 texts/s" in over.json()["error"]
    assert 1 <= int(over.headers["retry-after"]) <= 2
    tokens = server.client.post("/tokenize", json={"inputs": [TEXT] * 8}, headers=bearer(BULK))
    ids = server.client.post("/decode", json={"ids": [[5]] * 8}, headers=bearer(BULK))
    assert (tokens.status_code, ids.status_code) == (429, 429), "they cost time, too"
    assert embed(server, GOLD, texts=20).status_code == 200  # another key's rate is its own
    metrics = server.client.get("/metrics", headers=bearer(GOLD)).text
    assert 'strata_tier_refused_total{reason="rate",tier="bulk"} 3.0' in metrics


def test_the_openai_sdk_brings_its_key_and_budget(guarded: RunningServer) -> None:
    client = openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=GOLD, max_retries=0)
    raw = client.embeddings.with_raw_response.create(
        model="tiny", input=TEXT, extra_body={"budget_ms": 30_000}, extra_headers={"X-Strata-Min-Layers": "4"}
    )
    assert (raw.headers["x-strata-tier"], raw.headers["x-strata-layers"]) == ("gold", "4")
    assert len(raw.parse().data[0].embedding) == 32
    with pytest.raises(openai.AuthenticationError, match="API key is not known"):
        client.with_options(api_key="sk-wrong").embeddings.create(model="tiny", input=TEXT)
    with pytest.raises(openai.PermissionDeniedError, match="must be one of bulk"):
        client.with_options(api_key=BULK).embeddings.create(model="tiny", input=TEXT, extra_body={"tier": "gold"})
    with pytest.raises(openai.BadRequestError, match="too short"):
        client.embeddings.create(model="tiny", input=[TEXT] * 500, extra_body={"budget_ms": 0.01})


def test_the_hugging_face_client_brings_its_key(guarded: RunningServer) -> None:
    found = InferenceClient(base_url=guarded.url, api_key=GOLD).feature_extraction(TEXT)
    assert found.shape == (1, 32)
    with pytest.raises(HfHubHTTPError) as caught:
        InferenceClient(base_url=guarded.url, api_key="sk-wrong").feature_extraction(TEXT)
    assert caught.value.response.status_code == 401


def test_info_tells_the_tiers_and_neither_it_nor_the_log_a_key(guarded: RunningServer) -> None:
    info = guarded.client.get("/info", headers=bearer(GOLD))
    assert [tier["name"] for tier in info.json()["tiers"]] == ["gold", "bulk"]
    assert info.json()["tiers"][0]["deadline_ms"] == 60_000
    embed(guarded, "sk-wrong-and-secret")
    guarded.await_logged("status=401")
    for key in (GOLD, BULK, "sk-wrong-and-secret"):
        for told in (info.text, guarded.text(), guarded.client.get("/metrics", headers=bearer(GOLD)).text):
            assert key not in told
            assert hashed(key).removeprefix("sha256:") not in told


def test_sighup_reads_the_tiers_anew_and_a_broken_file_keeps_the_old(
    start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "tiers.toml"
    path.write_text(TIERS)
    server = start_server(tiny_bundle, "--tiers", str(path))
    for wrong in ("deadline_ms = -1", "exits = [3]"):
        path.write_text(TIERS.replace("min_quality = 0.8", wrong))
        server.process.send_signal(signal.SIGHUP)
        server.await_logged(f"tiers_kept .*bulk.*{wrong.split()[0]}")
        assert embed(server, BULK).headers["x-strata-layers"] == "2"
    path.write_text(TIERS.replace(hashed(GOLD), hashed("sk-fresh")).replace("min_quality = 0.8", "min_layers = 1"))
    server.process.send_signal(signal.SIGHUP)
    server.await_logged("tiers_reloaded")
    assert embed(server, GOLD).status_code == 401
    assert embed(server, "sk-fresh").headers["x-strata-tier"] == "gold"
    assert embed(server, BULK).headers["x-strata-layers"] == "1"


def test_the_example_serves_callers_without_a_key(start_server: ServerFactory) -> None:
    example = Path(__file__).parents[2] / "docker" / "tiers.toml"
    from strata.model_store.bundle.registry import DEFAULT, find

    server = start_server(find(DEFAULT), "--tiers", str(example))
    response = embed(server, "any key, since none is known")
    assert response.headers["x-strata-tier"] == "public"
    assert embed(server, None, tier="interactive").status_code == 403


def test_nothing_listens_beyond_this_machine_without_keys(tiny_bundle: Path, tmp_path: Path) -> None:
    keyless = tmp_path / "keyless.toml"
    keyless.write_text("[[tier]]\nname = 'all'\nanonymous = true\n")
    for host, flags in (("0.0.0.0", ()), ("::", ("--tiers", str(keyless))), ("example.org", ())):
        result = strata("serve", "--model", str(tiny_bundle), "--host", host, "--port", "0", *flags)
        assert result.returncode == 2
        assert result.stderr.startswith(f"strata serve: --host: {host} can be reached from other machines")
        assert "--insecure" in result.stderr


def test_a_broken_file_of_tiers_ends_the_start_with_a_line(tiny_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "tiers.toml"
    path.write_text("[[tier]]\nname = 'all'\ndeadline = 5\n")
    result = strata("serve", "--model", str(tiny_bundle), "--tiers", str(path))
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert f'--tiers {path}: tier "all": deadline: no such field' in result.stderr


def test_operations_may_have_a_port_of_their_own(start_server: ServerFactory, tiny_bundle: Path, tiers: Path) -> None:
    server = start_server(tiny_bundle, "--tiers", str(tiers), "--operations-port", "0")
    operations = server.await_logged(r"operations.*?(http://[\d.]+:\d+)")[1]
    assert operations != server.url
    for path in ("/metrics", "/info", "/docs", "/openapi.json"):
        assert httpx.get(operations + path).status_code == 200
        assert server.client.get(path, headers=bearer(GOLD)).status_code == 404
    for path in ("/health", "/ready"):
        assert httpx.get(operations + path).status_code == server.client.get(path).status_code == 200
    assert httpx.post(operations + "/embed", json={"inputs": TEXT}, headers=bearer(GOLD)).status_code == 404
    assert embed(server, GOLD).status_code == 200
    assert server.stop() == 0


def test_a_fresh_key_fits_its_line_and_no_other(tmp_path: Path) -> None:
    printed = [strata("keys", "new").stdout.split() for _ in range(2)]
    keys = [next(word for word in words if word.startswith("sk-strata-")) for words in printed]
    lines = [next(word for word in words if word.startswith('"sha256:')).strip('",') for words in printed]
    assert lines == [hashed(key) for key in keys]
    assert keys[0] != keys[1]
    assert len(keys[0]) > 50
