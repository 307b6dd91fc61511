"""Two replicas on Ray Serve, started as a user would."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.balancer.conftest import free_ports
from tests.waiting import await_ready

pytest.importorskip("ray.serve", reason="Ray is not installed: pip install '.[ray]'")

CONFIG = """
proxy_location: EveryNode
http_options: {{host: 127.0.0.1, port: {port}}}
applications:
  - name: strata
    import_path: strata.app.ray:replicas
    args: {{min_replicas: 2, max_replicas: 2, cpus: 1}}
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`serve run` in a process of its own, with two ready replicas."""
    port = free_ports(1)[0]
    folder = tmp_path_factory.mktemp("ray")
    (folder / "config.yaml").write_text(CONFIG.format(port=port))
    env = {
        **os.environ,
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),
        "PYTHONPATH": os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH")))),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": str(folder),
        "STRATA_BACKEND": "onnxruntime",
        "STRATA_DTYPE": "float32",
    }
    log = folder / "log"
    serve = shutil.which("serve", path=env["PATH"])
    assert serve is not None
    with log.open("wb") as sink:
        process = subprocess.Popen([serve, "run", str(folder / "config.yaml")], env=env, stdout=sink, stderr=sink)
    address = f"http://127.0.0.1:{port}"
    try:
        await_ready(address, process, 120, lambda: log.read_text()[-3000:])
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)


def starts(url: str) -> set[str]:
    """The replicas that answer, by the start time each tells in its metrics."""
    texts = [httpx.get(f"{url}/metrics").text for _ in range(12)]
    return {line for text in texts for line in text.splitlines() if line.startswith("process_start_time_seconds")}


def test_two_replicas_answer_with_what_was_asked(url: str) -> None:
    def embed(layers: int) -> tuple[int, str, int]:
        body = {"inputs": ["river", "bread"]}
        response = httpx.post(f"{url}/embed", params={"layers": layers, "dim": 32}, json=body, timeout=30)
        return response.status_code, response.headers["x-strata-layers"], len(response.json()[0])

    with ThreadPoolExecutor(8) as threads:
        asked = [(1, 3, 12)[i % 3] for i in range(60)]
        answers = list(threads.map(embed, asked))
    assert answers == [(200, str(layers), 32) for layers in asked]
    deadline = time.monotonic() + 30  # the second may start later than the first
    while len(starts(url)) < 2 and time.monotonic() < deadline:
        time.sleep(1)
    assert len(starts(url)) == 2
    engine = httpx.get(f"{url}/info").json()["engine"]
    assert (engine["workers"], engine["threads"]) == (1, 1), "a replica takes the cores it was given"
    assert httpx.post(f"{url}/embed", params={"layers": 13}, json={"inputs": "river"}).status_code == 422
