"""What the image runs, as its Dockerfile says it, in a pod of a cluster that has a Service called strata: no engine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.cluster import LINKS, command, environment
from tests.conftest import STRATA
from tests.waiting import await_ready

PORT = 8080


def test_the_command_of_the_image_starts_beside_what_a_cluster_sets(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            pytest.skip(f"the image's port, {PORT}, is in use here")
    image = environment()
    assert image["STRATA_PORT"] == str(PORT)
    assert image["STRATA_HOST"] == "0.0.0.0"
    run = command()
    place = run.index("strata")
    before = run[:place] if shutil.which(run[0]) else []  # tini passes signals on; it may be missing here
    words = [*before, *STRATA, *run[place + 1 :]]
    # A cluster's variables come after the image's and before the pod's own.
    own = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "STRATA_HOST": "127.0.0.1",  # no other machine is to reach a server under test
        "STRATA_BACKEND": "onnxruntime",
    }
    log, address = tmp_path / "log", f"http://127.0.0.1:{PORT}"
    with log.open("wb") as sink:
        process = subprocess.Popen(words, env={**os.environ, **image, **LINKS, **own}, stderr=sink)
    try:
        await_ready(address, process, 60, log.read_text)
        answer = httpx.post(f"{address}/embed?layers=2", json={"inputs": "river"})
        assert answer.status_code == 200
    finally:
        process.terminate()
        assert process.wait(40) == 0
