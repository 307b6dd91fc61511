"""The images and the compose file, really built and run: `pytest -m docker`, where there is a Docker engine.

Where torch's own index cannot be reached, STRATA_TORCH_WHEELS names a folder with its wheel.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.balancer.conftest import free_ports
from tests.balancer.load import Load
from tests.cluster import LINKS
from tests.docker.conftest import DOCKER, ROOT

pytestmark = pytest.mark.docker

KEY = "sk-test-0123456789"
TIERS = f"""
[[tier]]
name = "only"
keys = ["sha256:{sha256(KEY.encode()).hexdigest()}"]
"""
BEARER = {"Authorization": f"Bearer {KEY}"}

ASK = f"""
import json, os, urllib.request as u
port = os.environ.get("STRATA_OPERATIONS_PORT", "8080")
info = json.load(u.urlopen(f"http://127.0.0.1:{{port}}/info"))
body, headers = json.dumps({{"inputs": "river"}}).encode(), {{"Content-Type": "application/json", **{BEARER}}}
answer = json.load(u.urlopen(u.Request("http://127.0.0.1:8080/embed?layers=6&dim=32", body, headers)))
print(json.dumps({{"engine": info["engine"], "length": len(answer[0]), "user": os.getuid()}}))
"""
ADDED_MB = {"slim": 320, "cpu": 1500}  # on top of the Python image, which has about 130 in its published form


def docker(*arguments: str, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        ["docker", *arguments],
        env=env,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.fixture(scope="module", autouse=True)
def engine() -> None:
    if shutil.which("docker") is None:
        pytest.skip("there is no docker command")
    for command in (["version"], ["compose", "version"], ["buildx", "version"]):
        tried = subprocess.run(["docker", *command], capture_output=True, text=True, timeout=60)
        if tried.returncode != 0:
            pytest.skip(f"docker {' '.join(command)}: {tried.stderr.strip()}")


@pytest.fixture(scope="module", params=["slim", "cpu"])
def image(request: pytest.FixtureRequest) -> str:
    """The image of a target."""
    wheels = os.environ.get("STRATA_TORCH_WHEELS")
    context = ["--build-context", f"wheels={wheels}"] if wheels else []
    docker("build", "--target", request.param, *context, "--tag", f"strata:{request.param}", ".")
    return str(request.param)


def await_healthy(container: str) -> None:
    deadline = time.monotonic() + 90
    while docker("inspect", "--format", "{{.State.Health.Status}}", container).strip() != "healthy":
        assert time.monotonic() < deadline, docker("logs", container)
        time.sleep(0.5)


def await_ready(container: str) -> None:
    await_healthy(container)
    deadline = time.monotonic() + 90
    while subprocess.run(
        ["docker", "exec", container, "python", "-c", ASK], capture_output=True, timeout=60
    ).returncode:
        assert time.monotonic() < deadline, docker("logs", container)
        time.sleep(0.5)


def test_an_image_serves_read_only_without_network_within_its_quota_and_ends_well(image: str) -> None:
    name = f"strata-test-{os.getpid()}-{image}"
    docker("run", "--detach", "--name", name, "--read-only", "--network", "none", "--cpus", "1",
           "--env", "STRATA_INSECURE=true", f"strata:{image}")  # fmt: skip
    try:
        await_ready(name)
        told = json.loads(docker("exec", name, "python", "-c", ASK))
        assert (told["length"], told["user"]) == (32, 10001)
        assert (told["engine"]["workers"], told["engine"]["threads"]) == (1, 1), "of a machine that may have more cores"
        asked = time.monotonic()
        docker("stop", "--time", "40", name)
        assert time.monotonic() - asked < 10
        assert docker("inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0"
    finally:
        docker("rm", "--force", name)


def test_an_image_starts_beside_what_a_cluster_sets(image: str) -> None:
    name = f"strata-test-links-{os.getpid()}-{image}"
    links = [word for variable, value in LINKS.items() for word in ("--env", f"{variable}={value}")]
    docker("run", "--detach", "--name", name, "--read-only", *links, "--env", "STRATA_INSECURE=true", f"strata:{image}")
    try:
        await_healthy(name)
        assert "listening url=http://0.0.0.0:8080" in docker("logs", name)
    finally:
        docker("rm", "--force", name)


def test_an_image_does_not_listen_to_strangers_unasked(image: str) -> None:
    tried = subprocess.run(["docker", "run", "--rm", f"strata:{image}"], capture_output=True, text=True, timeout=60)
    assert tried.returncode == 2
    assert "--insecure" in tried.stderr


def test_an_image_is_as_small_as_it_should_be(image: str) -> None:
    def size(tag: str) -> float:
        return int(docker("image", "inspect", "--format", "{{.Size}}", tag)) / 1e6

    assert size(f"strata:{image}") - size("python:3.11-slim-bookworm") < ADDED_MB[image]


def test_slim_has_no_torch(image: str) -> None:
    code = "import importlib.util as u; print([u.find_spec(name) is not None for name in ('torch', 'transformers')])"
    found = docker("run", "--rm", "--entrypoint", "python", f"strata:{image}", "-c", code)
    assert found.strip() == str([image == "cpu"] * 2)


class Compose:
    """A compose project of two replicas on ports of its own, whose callers need a key."""

    def __init__(self, folder: Path) -> None:
        (folder / "tiers.toml").write_text(TIERS)
        (folder / "tiers.toml").chmod(0o644)
        self._keys = folder / "keys.yaml"
        volume = f"{folder / 'tiers.toml'}:/etc/strata/tiers.toml:ro"
        keyed = {"environment": {"STRATA_TIERS": "/etc/strata/tiers.toml"}, "volumes": [volume]}
        self._keys.write_text(json.dumps({"services": {"strata": keyed}}))
        door, stats, prometheus = free_ports(3)
        self.url, self.stats_url, self.prometheus_url = (f"http://127.0.0.1:{p}" for p in (door, stats, prometheus))
        self.env = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": f"strata-test-{os.getpid()}",
            "STRATA_TARGET": "slim",
            "STRATA_CPUS": "1",
            "STRATA_PORT": str(door),
            "STRATA_STATS_PORT": str(stats),
            "PROMETHEUS_PORT": str(prometheus),
        }
        for variable, image in (("HAPROXY_VERSION", "haproxy"), ("PROMETHEUS_VERSION", "prom/prometheus")):
            here = docker("images", "--format", "{{.Tag}}", image).split()  # whichever version is at hand
            if here:
                self.env.setdefault(variable, here[0])

    def __call__(self, *arguments: str) -> str:
        files = ("--file", str(DOCKER / "compose.yaml"), "--file", str(self._keys))
        return docker("compose", *files, *arguments, env=self.env)

    def replicas(self) -> list[str]:
        return self("ps", "--quiet", "strata").split()

    def up(self) -> int:
        """How many replicas get requests."""
        try:
            text = httpx.get(f"{self.stats_url}/metrics").text
        except httpx.TransportError:
            return 0
        return len(re.findall(r'^haproxy_server_status\{proxy="strata",.*state="UP"\} 1$', text, re.M))

    def await_up(self, count: int) -> None:
        deadline = time.monotonic() + 90
        while self.up() != count:
            assert time.monotonic() < deadline, self("logs", "--tail", "20")
            time.sleep(0.1)


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    compose = Compose(tmp_path_factory.mktemp("compose"))
    try:
        compose("up", "--build", "--detach")
        for replica in compose.replicas():  # the balancer takes a new address for a server until it has asked it
            await_ready(replica)
        compose.await_up(2)
        yield compose
    finally:
        compose("down", "--volumes", "--timeout", "5")


def test_compose_embeds_through_the_balancer_and_prometheus_sees_all_replicas(compose: Compose) -> None:
    asked: dict[str, Any] = {"params": {"layers": 3}, "json": {"inputs": "river"}, "timeout": 30}
    assert httpx.post(f"{compose.url}/embed", **asked).status_code == 401
    answer = httpx.post(f"{compose.url}/embed", headers=BEARER, **asked)
    assert answer.status_code == 200
    assert answer.headers["x-strata-layers"] == "3"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        query = {"query": "count(strata_ready == 1)"}
        found = httpx.get(f"{compose.prometheus_url}/api/v1/query", params=query).json()["data"]["result"]
        if found and found[0]["value"][1] == "2":
            break
        time.sleep(0.5)
    else:
        raise AssertionError("Prometheus does not see two ready replicas")


def test_a_killed_container_costs_no_client_an_error(compose: Compose) -> None:
    with Load(compose.url, clients=4, headers=BEARER) as load:
        time.sleep(3)
        victim = compose.replicas()[0]
        docker("kill", "--signal", "KILL", victim)
        time.sleep(4)
        docker("start", victim)
        await_ready(victim)
        compose.await_up(2)
        time.sleep(2)
    assert load.failures == []
    assert load.answered > 20


def test_a_rolling_restart_of_containers_fails_no_request(compose: Compose) -> None:
    with Load(compose.url, clients=4, headers=BEARER) as load:
        time.sleep(1)
        done = subprocess.run(
            [DOCKER / "rolling-restart"], env=compose.env, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        time.sleep(1)
    assert done.stdout.count("restarted") == 2
    assert load.failures == []
    assert load.answered > 20
