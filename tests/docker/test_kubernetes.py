"""The Kubernetes files fit the API's schemas and one another."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.settings import ENV_PREFIX, Settings
from tests.docker.conftest import DOCKER, ROOT

OBJECTS: dict[str, Any] = {
    found["kind"]: found
    for file in sorted((DOCKER / "kubernetes").glob("*.yaml"))
    for found in yaml.safe_load_all(file.read_text())
}
KEDA: Any = yaml.safe_load((DOCKER / "kubernetes" / "keda" / "strata.yaml").read_text())


@pytest.mark.parametrize("kind", ["Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"])
@pytest.mark.parametrize("version", ["1.29", kubernetes_validate.latest_version()])
def test_fits_the_schema(kind: str, version: str) -> None:
    kubernetes_validate.validate(OBJECTS[kind], version, strict=True)


def test_a_wrong_field_would_be_seen() -> None:
    wrong = {**OBJECTS["Service"], "spec": {**OBJECTS["Service"]["spec"], "port": 80}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.29", strict=True)


def test_names_and_labels_meet() -> None:
    deployment = OBJECTS["Deployment"]
    pod = deployment["spec"]["template"]
    labels = pod["metadata"]["labels"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        OBJECTS["Service"]["spec"]["selector"],
        OBJECTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    target = OBJECTS["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    ports = {port["name"] for port in pod["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in OBJECTS["Service"]["spec"]["ports"]} <= ports


def test_keda_takes_over_the_autoscaler_and_differs_in_what_it_looks_at() -> None:
    """KEDA's own schema is not at hand: the part that Kubernetes has is checked as the autoscaler it makes."""
    spec, usual = KEDA["spec"], OBJECTS["HorizontalPodAutoscaler"]["spec"]
    config = spec["advanced"]["horizontalPodAutoscalerConfig"]
    assert KEDA["metadata"]["annotations"] == {"scaledobject.keda.sh/transfer-hpa-ownership": "true"}
    assert config["name"] == OBJECTS["HorizontalPodAutoscaler"]["metadata"]["name"]
    assert spec["scaleTargetRef"] == usual["scaleTargetRef"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (usual["minReplicas"], usual["maxReplicas"])
    assert config["behavior"] == usual["behavior"]
    (trigger,) = spec["triggers"]
    assert all(isinstance(value, str) for value in trigger["metadata"].values()), "KEDA takes nothing else"
    made = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": config["name"]},
        "spec": {
            **usual,
            "behavior": config["behavior"],
            "metrics": [
                {
                    "type": "External",
                    "external": {
                        "metric": {"name": "s0-prometheus"},
                        "target": {"type": trigger["metricType"], "value": trigger["metadata"]["threshold"]},
                    },
                }
            ],
        },
    }
    kubernetes_validate.validate(made, "1.29", strict=True)


def test_a_pod_has_time_to_drain() -> None:
    pod = OBJECTS["Deployment"]["spec"]["template"]["spec"]
    env = {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]}
    pause = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    closing = 5  # what clients that do not read their answers get
    assert pod["terminationGracePeriodSeconds"] > pause + float(env["STRATA_DRAIN_SECONDS"]) + closing


def test_every_option_that_is_set_exists() -> None:
    files = [ROOT / "Dockerfile", DOCKER / "compose.yaml", *(DOCKER / "kubernetes").glob("*.yaml")]
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields} | {"STRATA_MODEL_STORE"}
    for file in files:
        set_here = re.findall(
            r"^\s+(STRATA_\w+)[:=]|name: (STRATA_\w+),|--?e(?:nv)? (STRATA_\w+)=", file.read_text(), re.M
        )
        names = {name for names in set_here for name in names if name}
        assert names, file
        assert names <= known, file
