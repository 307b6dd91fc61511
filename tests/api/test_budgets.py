"""Budgets through the front door: time, floors, exits and spaces, said three ways; and what to ask instead."""

from __future__ import annotations

import concurrent.futures
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from httpx import Client, Response

from strata.app.planning.feasibility import why_not_deeper
from tests.conftest import RunningServer, ServerFactory
from tests.endure.conftest import series, until

TEXT = "the river and the mountain"


def embed(client: Client, *, query: str = "", headers: dict[str, str] | None = None, **fields: object) -> Response:
    return client.post("/embed" + query, json={"inputs": TEXT, **fields}, headers=headers)


def ran(response: Response) -> int:
    assert response.status_code == 200, response.text
    return int(response.headers["x-strata-layers"])


def refused(response: Response, status: int = 422) -> str:
    assert response.status_code == status, response.text
    return str(response.json()["error"])


def test_a_budget_is_met_at_full_depth_when_there_is_time(client: Client) -> None:
    response = embed(client, budget_ms=60_000)
    assert ran(response) == 4
    assert response.headers["x-strata-tier"] == "default"
    assert 0 < float(response.headers["x-strata-slack-ms"]) < 60_000
    assert float(response.headers["x-strata-predicted-ms"]) > 0
    assert "x-strata-slack-ms" not in embed(client).headers


@pytest.mark.parametrize(
    ("asked", "layers"),
    [
        ({"min_layers": 2}, 2),
        ({"min_layers": 3}, 4),
        ({"min_quality": 0.7}, 1),
        ({"min_quality": 0.76}, 2),
        ({"min_quality": 0.76, "min_layers": 4}, 4),
        ({"exits": [1, 2]}, 2),
        ({"exits": "1,2", "budget_ms": 60_000}, 2),
        ({"exits": "shared", "budget_ms": 60_000}, 4),
        ({"layers": 2, "budget_ms": 60_000, "min_layers": 1}, 2),
    ],
)
def test_floors_and_exits_decide_the_depth(client: Client, asked: dict[str, Any], layers: int) -> None:
    assert ran(embed(client, **asked)) == layers
    texts = {
        name: ",".join(map(str, value)) if isinstance(value, list) else str(value) for name, value in asked.items()
    }
    headers = {"X-Strata-" + name.replace("_", "-").title(): value for name, value in texts.items()}
    assert ran(embed(client, headers=headers)) == layers
    assert ran(client.post("/embed", params=texts, json={"inputs": TEXT})) == layers
    assert ran(client.post("/v1/embeddings", json={"input": TEXT, **asked})) == layers
    pair = {"source_sentence": TEXT, "sentences": [TEXT]}
    assert ran(client.post("/similarity", json={"inputs": pair, **asked})) == layers


def test_given_twice_and_different_names_both_places(client: Client) -> None:
    message = refused(embed(client, query="?budget_ms=500", headers={"X-Strata-Budget-Ms": "600"}))
    assert "`budget_ms` in the query is 500" in message
    assert "the header X-Strata-Budget-Ms is 600" in message
    message = refused(embed(client, query="?exits=1,2", exits=[2, 4]))
    assert "`exits` is given twice" in message
    assert ran(embed(client, query="?exits=2,1&budget_ms=60000", exits=[1, 2], budget_ms=60_000)) == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("budget_ms", 0),
        ("budget_ms", -5),
        ("budget_ms", "soon"),
        ("min_quality", 0),
        ("min_quality", "high"),
        ("min_quality", 1.01),
        ("min_layers", 0),
        ("min_layers", 5),
        ("min_layers", 1.5),
        ("exits", [3]),
        ("exits", []),
        ("exits", "all"),
        ("exits", "1;2"),
        ("tier", "gold"),
        ("space", "somewhere"),
    ],
)
def test_a_value_that_cannot_be_is_refused_naming_the_field(client: Client, field: str, value: object) -> None:
    said: dict[str, Any] = {field: value}
    assert f"`{field}`" in refused(embed(client, **said))
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    assert f"`{field}`" in refused(client.post("/embed", params={field: text}, json={"inputs": TEXT}))
    error = client.post("/v1/embeddings", json={"input": TEXT, **said})
    assert (error.status_code, error.json()["error"]["param"]) == (400, field)


def test_vectors_of_one_space_are_asked_for_by_its_name(client: Client) -> None:
    first = embed(client, layers=2, dim=16)
    space = first.headers["x-strata-space"]
    assert space == f"{first.headers['x-strata-model']}/2x16"
    again = embed(client, space=space, budget_ms=60_000)
    assert again.headers["x-strata-space"] == space
    np.testing.assert_allclose(again.json(), first.json(), atol=1e-5)
    assert embed(client, headers={"X-Strata-Space": space}).headers["x-strata-space"] == space
    assert "`dim` is 8" in refused(embed(client, space=space, dim=8))
    assert space.split("/")[0] in refused(embed(client, space="tiny@000000000000/2x16"))


def test_a_deadline_no_server_could_meet_is_refused_saying_what_is_possible(client: Client) -> None:
    body = {"inputs": ["river bread coffee window " * 10] * 100}
    response = client.post("/embed?budget_ms=0.01&min_layers=2", json=body)
    message = refused(response)
    assert "`budget_ms`, 0.01 ms, is too short: the fewest layers these terms allow, 2, take about" in message
    needed = float(message.split("take about ")[1].split()[0])
    assert needed > 0.01
    assert needed < int(message.split("give `budget_ms` ")[1].split()[0])
    for _ in range(10):  # a slow moment makes one late, or the advice larger: what is advised now is tried
        advised = refused(client.post("/embed?budget_ms=0.01&min_layers=2", json=body)).split("give `budget_ms` ")[1]
        answer = client.post(f"/embed?budget_ms={advised.split()[0]}&min_layers=2", json=body)
        if answer.status_code == 200:
            break
    assert answer.status_code == 200, "what is advised is let in, and in time"
    metrics = client.get("/metrics").text
    assert 'strata_tier_refused_total{reason="infeasible",tier="default"}' in metrics
    error = client.post("/v1/embeddings?budget_ms=0.01", json={"input": body["inputs"]})
    assert (error.status_code, error.json()["error"]["param"]) == (400, "budget_ms")


def test_text_that_no_server_could_tokenize_in_time_is_no_load(client: Client) -> None:
    response = client.post("/embed?budget_ms=60", json={"inputs": ["é " * 60_000] * 8})
    assert "to tokenize this much text takes about" in refused(response)
    assert "retry-after" not in response.headers


def test_a_slow_upload_is_no_queue_and_its_deadline_no_overload(server: RunningServer) -> None:
    def waited() -> float:
        return series(server, 'strata_tier_queue_seconds_sum{tier="default"}')

    def send(path: str) -> Response:
        def body() -> Iterator[bytes]:
            yield b'{"inputs": '
            time.sleep(0.5)
            yield b'"river"}'

        return server.client.post(path, content=body())

    embed(server.client)
    before = waited()
    answer = send("/embed")
    stages = dict(part.strip().split(";dur=") for part in answer.headers["server-timing"].split(","))
    assert float(stages["receive"]) >= 400
    assert float(stages["queue"]) < 400
    assert int(answer.headers["x-queue-time"]) < 400
    assert waited() - before < 0.4
    late = send("/embed?budget_ms=200")
    assert (late.status_code, late.json()["error"]) == (
        504,
        "the deadline of 200 ms passed while the request was being sent",
    )
    assert series(server, 'strata_tier_refused_total{reason="upload",tier="default"}') == 1


def test_behind_a_long_queue_a_short_deadline_is_refused_at_once(
    start_server: ServerFactory, tiny_bundle: Path
) -> None:
    server = start_server(tiny_bundle, "--max-batch-tokens", "200")
    text = "river bread coffee window " * 50  # cut to 160 tokens
    alone = server.client.get("/plan?texts=100&tokens=160").json()["alternatives"][-1]["empty_ms"]
    body = {"inputs": [text] * 100, "layers": 4, "budget_ms": 3 * alone}
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        with server.engine_held():
            requests = [threads.submit(server.client.post, "/embed", json=body) for _ in range(8)]
            done, _ = concurrent.futures.wait(
                requests, timeout=2.5 * alone / 1000, return_when=concurrent.futures.FIRST_COMPLETED
            )
        found = [request.result() for request in requests]
    busy = [response for response in found if response.status_code == 503]
    assert done
    assert busy
    assert {response.status_code for response in found} <= {200, 503, 504}
    for response in busy:
        assert int(response.headers["retry-after"]) >= 1
        assert "too late" in refused(response, 503)
    metrics = server.client.get("/metrics").text
    # The tokenizer's threads are behind, too: that is said of those that it would make late.
    refusals = re.findall(r'strata_tier_refused_total{reason="(?:deadline|tokenizer)",tier="default"} (.+)', metrics)
    assert sum(map(float, refusals)) == len(busy)


def test_a_deadline_that_passes_in_the_queue_is_told_and_costs_nothing(
    start_server: ServerFactory, tiny_bundle: Path
) -> None:
    server = start_server(tiny_bundle)
    embed(server.client)  # connections and caches are warm
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        with server.engine_held():
            held = threads.submit(embed, server.client)
            until(lambda: "strata_workers_idle 0.0" in server.client.get("/metrics").text, 20)
            started = time.monotonic()
            tei = threads.submit(embed, server.client, budget_ms=500)
            openai = threads.submit(server.client.post, "/v1/embeddings?budget_ms=500", json={"input": TEXT})
            assert "deadline of 500 ms has passed" in refused(tei.result(), 504)
            assert 0.3 < time.monotonic() - started < 10
            assert openai.result().status_code == 504
            assert openai.result().json()["error"]["code"] == "deadline_passed"
        assert ran(held.result()) == 4
    assert 'strata_tier_expired_total{tier="default"} 2.0' in server.client.get("/metrics").text


def test_the_plan_is_what_is_then_run(client: Client) -> None:
    for query in ("", "?budget_ms=60000", "?min_layers=2", "?exits=1,2&dim=16", "?layers=1"):
        plan = client.get("/plan" + query).json()["plan"]
        answer = embed(client, query=query).headers
        assert plan["space"] == answer["x-strata-space"]
        assert f"{plan['quality']:.4f}" == answer["x-strata-quality"]


def test_the_plan_tells_the_alternatives_and_why_not(client: Client) -> None:
    plan = client.get("/plan?budget_ms=60000&min_layers=2&texts=4&tokens=32").json()
    assert (plan["texts"], plan["tokens"]) == (4, 32)
    said = {"tier": "default", "exits": [2, 4], "dim": 32, "deadline_ms": 60_000.0}
    assert plan["terms"] == {**said, "input_type": None, "task": None, "output_dtype": "float"}
    assert plan["plan"]["in_time"] is True
    rows = {row["layers"]: row for row in plan["alternatives"]}
    assert set(rows) == {1, 2, 4}
    assert "min_layers" in rows[1]["ruled_out"]
    assert rows[2]["ruled_out"] is rows[4]["ruled_out"] is None
    assert 0 < rows[1]["empty_ms"] <= rows[4]["empty_ms"]  # so small a model takes no longer for more layers
    assert rows[4]["queued_ms"] >= rows[4]["empty_ms"]
    assert [rows[layers]["quality"] for layers in (1, 2, 4)] == [0.75, 0.875, 1.0]


def test_the_plan_tells_which_exits_the_deadline_rules_out(client: Client) -> None:
    plan = client.get("/plan?texts=8&tokens=128&budget_ms=60000").json()
    takes = {row["layers"]: row["empty_ms"] for row in plan["alternatives"]}
    short = client.get(f"/plan?texts=8&tokens=128&budget_ms={0.8 * min(takes.values())}").json()
    assert short["plan"]["layers"] == 1
    assert [row["ruled_out"] for row in plan["alternatives"]] == [None, None, None]
    for row in short["alternatives"][1:]:
        assert re.fullmatch(r"takes [\d.]+ ms of [\d.]+ now", row["ruled_out"])


@pytest.mark.parametrize(
    ("seconds", "deadline_s", "told"),
    [
        (0.02, 0.01, "takes 20.0 ms of 10 now"),
        (0.0095, 0.01, "takes 9.5 ms of 10 now, and predictions err, and others may come"),
        (0.02, None, "what else waits leaves no time for it now"),
    ],
)
def test_why_an_exit_that_is_allowed_does_not_run_now(seconds: float, deadline_s: float | None, told: str) -> None:
    assert why_not_deeper(6, 4, seconds, deadline_s) == told
    assert why_not_deeper(4, 4, seconds, deadline_s) is None


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("layer=6", "the name is `layers`"),
        ("budget=50", "the name is `budget_ms`"),
        ("text=5", "the name is `texts`"),
        ("token=5", "the name is `tokens`"),
        ("texts=1&texts=5", "`texts` is given twice and differs: 1, 5"),
    ],
)
def test_a_plan_drops_nothing_without_a_word(client: Client, query: str, told: str) -> None:
    assert told in refused(client.get(f"/plan?{query}"))


def test_a_plan_may_be_asked_with_what_only_a_body_has(client: Client) -> None:
    assert client.get("/plan?texts=2&texts=2&truncate=true&utm_source=x").status_code == 200


@pytest.mark.parametrize("query", ["texts=0", "tokens=many", "tokens=161", "texts=100000", "min_quality=2", "layers=3"])
def test_a_plan_refuses_as_the_request_would(client: Client, query: str) -> None:
    assert f"`{query.split('=')[0]}`" in refused(client.get(f"/plan?{query}"))


def test_strata_plan_asks_a_running_server(server: RunningServer) -> None:
    def plan(*flags: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "strata.app.cli", "plan", "--url", server.url, *flags]
        return subprocess.run(command, capture_output=True, text=True, timeout=30)

    assert "4 layers, 32 dims as ubinary, quality -" in plan("--output-dtype", "ubinary").stdout
    told = plan("--min-layers", "2", "--texts", "4")
    assert told.returncode == 0, told.stderr
    assert "now    2 layers, 32 dims, quality 0.875" in told.stdout
    assert "under `min_layers` 2" in told.stdout
    wrong = plan("--layers", "3")
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == "strata plan: `layers` must be one of 1, 2, 4. Given: 3\n"


def test_every_option_is_documented_for_query_body_and_header(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path in ("/embed", "/v1/embeddings", "/similarity"):
        operation = paths[path]["post"]
        places = {(parameter["in"], parameter["name"]) for parameter in operation["parameters"]}
        body = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
        for name in ("layers", "dim", "budget_ms", "min_quality", "min_layers", "exits", "tier", "space"):
            assert ("query", name) in places
            assert ("header", "X-Strata-" + name.replace("_", "-").title()) in places
            assert name in body
        assert all(parameter["description"] for parameter in operation["parameters"])
