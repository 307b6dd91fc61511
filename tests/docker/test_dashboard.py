"""The dashboard: by its schema, and every query of it against a running Prometheus that scrapes a server under load."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.balancer.conftest import Balancer, free_ports, haproxy  # noqa: F401 - a fixture
from tests.balancer.debian import Program, Unavailable, program
from tests.balancer.load import Load
from tests.conftest import ServerFactory
from tests.docker.conftest import DOCKER

QUESTIONS = ["Are promises kept?", "What is served?", "Is there capacity?", "Is it healthy?"]
TIERS = """
[[tier]]
name = "interactive"
deadline_ms = 60000
anonymous = true

[[tier]]
name = "hurried"
deadline_ms = 1
"""


def board() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCKER / "grafana" / "dashboards" / "strata.json").read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in board()["panels"] if panel["type"] != "row"]


def test_nothing_in_it_is_unknown_to_grafanas_schema() -> None:
    read = json.loads(json.dumps(Dashboard.from_json(board()), cls=JSONEncoder))

    def lost(given: object, kept: object, path: str = "") -> Iterator[str]:
        if isinstance(given, dict) and isinstance(kept, dict):
            for key, value in given.items():
                yield from lost(value, kept.get(key), f"{path}.{key}")
        elif isinstance(given, list) and isinstance(kept, list):
            for place, pair in enumerate(zip(given, kept, strict=True)):
                yield from lost(*pair, f"{path}[{place}]")
        elif given != kept:
            yield path

    assert list(lost(board(), read)) == []


def test_it_goes_by_questions_and_nothing_overlaps() -> None:
    assert [panel["title"] for panel in board()["panels"] if panel["type"] == "row"] == QUESTIONS
    taken: set[tuple[int, int]] = set()
    for panel in board()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["description"], panel["title"]
        assert panel["datasource"]["uid"] == "prometheus", "the one that is provisioned"


@pytest.fixture
def prometheus(pytestconfig: pytest.Config) -> Program:
    """The program; skips where it cannot be had."""
    assert pytestconfig.cache is not None
    try:
        return program("prometheus", "prometheus", pytestconfig.cache.mkdir("debian"))
    except Unavailable as reason:
        pytest.skip(str(reason))


def test_every_query_finds_data(
    prometheus: Program,
    haproxy: Program,  # noqa: F811
    start_server: ServerFactory,
    tiny_bundle: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "tiers.toml").write_text(TIERS)
    server = start_server(tiny_bundle, "--tiers", str(tmp_path / "tiers.toml"), "--shadow-share", "1")
    balancer = Balancer(haproxy, tmp_path, [server.port])
    rules = [str(path) for path in (DOCKER / "prometheus" / "rules").glob("*.yml")]
    jobs = {"strata": server.url, "balancer": balancer.stats_url}
    config = {
        "global": {"scrape_interval": "100ms", "evaluation_interval": "100ms"},
        "rule_files": rules,
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": [url.removeprefix("http://")]}]}
            for name, url in jobs.items()
        ],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps(config))
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                prometheus.path,
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            env=prometheus.env,
            stdout=log,
            stderr=log,
        )
    try:
        balancer.await_up(1)
        for _ in range(6):  # shadows run at idle alone
            httpx.post(f"{balancer.url}/embed?layers=2", json={"inputs": "seldom"})
            time.sleep(0.1)
        with (
            Load(balancer.url, clients=2, path="/embed?layers=2"),
            Load(balancer.url, clients=1, path="/embed?tier=hurried&input_type=query"),
        ):
            httpx.post(f"{balancer.url}/embed", json={"inputs": []})
            _await_data(url)
        log_text = (tmp_path / "prometheus.log").read_text()
        assert "Evaluating rule failed" not in log_text, log_text[-2000:]
        empty = [
            (panel["title"], target["expr"])
            for panel in panels()
            for target in panel["targets"]
            if not _found(url, target["expr"])
        ]
        assert empty == []
        for annotation in board()["annotations"]["list"]:
            assert _found(url, annotation["expr"].removesuffix(" > 0"))
    finally:
        process.terminate()
        process.wait(timeout=20)
        balancer.stop()


def _await_data(url: str) -> None:
    """Until the slowest series there is, a recorded rate, has been there for a while."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if _found(url, "count_over_time(strata:tier_attainment:ratio_rate6h[1m]) > 4"):
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("Prometheus has no data after a minute")


def _found(url: str, query: str) -> list[dict[str, Any]]:
    """What a panel's query gives, all tiers chosen. Raises HTTPStatusError where it is none."""
    asked = query.replace("$__rate_interval", "20s").replace("$tier", ".*")
    answer = httpx.get(f"{url}/api/v1/query", params={"query": asked})
    answer.raise_for_status()
    result: list[dict[str, Any]] = answer.json()["data"]["result"]
    return result
