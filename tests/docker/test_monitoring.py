"""Prometheus' rules fire when they should, and rules and dashboard ask for series that there are."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.balancer.debian import Program
from tests.docker.conftest import DOCKER

RULES = sorted((DOCKER / "prometheus" / "rules").glob("*.yml"))


def queries() -> list[str]:
    """What the dashboard asks, and KEDA."""
    board = json.loads((DOCKER / "grafana" / "dashboards" / "strata.json").read_text())
    keda = yaml.safe_load((DOCKER / "kubernetes" / "autoscale" / "queue.yaml").read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    return asked + [trigger["metadata"]["query"] for trigger in keda["spec"]["triggers"]]


def rules() -> list[dict[str, Any]]:
    return [rule for file in RULES for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def test_prometheus_takes_its_configuration(promtool: Program) -> None:
    checked = promtool.run("check", "config", DOCKER / "prometheus" / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout


def test_alerts_fire_when_they_should_and_not_otherwise(promtool: Program, tmp_path: Path) -> None:
    for file in (*RULES, Path(__file__).with_name("rules_test.yml")):
        shutil.copy(file, tmp_path)
    tested = promtool.run("test", "rules", "rules_test.yml", cwd=tmp_path)
    assert tested.returncode == 0, tested.stdout


def test_dashboard_and_keda_ask_in_prometheus_language(promtool: Program, tmp_path: Path) -> None:
    asked = [
        {"record": f"panel:{i}", "expr": query.replace("$__rate_interval", "1m").replace("$tier", ".*")}
        for i, query in enumerate(queries())
    ]
    (tmp_path / "panels.yml").write_text(json.dumps({"groups": [{"name": "panels", "rules": asked}]}))
    checked = promtool.run("check", "rules", tmp_path / "panels.yml")
    assert checked.returncode == 0, checked.stdout
    assert len(asked) > 20


def test_rules_dashboard_and_keda_ask_for_series_that_there_are(client: httpx.Client) -> None:
    told = set(re.findall(r"^# TYPE (\S+)", client.get("/metrics").text, re.M))
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    for query in [*queries(), *(rule["expr"] for rule in rules())]:
        for family in re.findall(r"strata_tier_\(([^)]*)\)_total", query):
            assert {f"strata_tier_{name}_total" for name in family.split("|")} <= told
        asked = re.findall(r"\b(?:strata|te)[_:][\w:]+(?![\w:(])", re.sub(r"\{__name__[^}]*\}|\"[^\"]*\"", "", query))
        for name in asked:
            base = re.sub(r"_(?:bucket|sum|count)$", "", name)
            assert {name, base} & (told | recorded), f"{name}, of {query}"


def test_every_alert_says_what_and_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) >= 7
    for alert in alerts:
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert set(alert["annotations"]) == {"summary", "action"}
