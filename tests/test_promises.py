"""The promises of the design, held from outside: a running server, the default bundle, plain HTTP."""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from tokenizers import Tokenizer

from strata.model_store.bundle.bundle import TOKENIZER, read_manifest
from strata.model_store.bundle.registry import DEFAULT, find
from tests.conftest import RunningServer, ServerFactory
from tests.engine.reference import Reference, cut
from tests.engine.test_real_models import sentences

# Run inside every Python process of the server: tells of whatever looks outside, or would run what a file says.
_WATCH = """
import os, socket, sys

def watch(event, args):
    told = None
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        if event != "socket.connect" or args[0].family != socket.AF_UNIX:
            told = args[-1] if event == "socket.connect" else args[0]
        if isinstance(told, (bytes, str)) and told in ("127.0.0.1", b"127.0.0.1"):
            told = None  # the server's own address, looked up to listen on
    elif event == "pickle.find_class":
        told = args
    if told is not None:
        with open(os.environ["WATCHED"], "a") as file:
            file.write(f"{event} {told}\\n")

sys.addaudithook(watch)
"""


@pytest.fixture(scope="module")
def strata(start_session_server: ServerFactory) -> RunningServer:
    return start_session_server(find(DEFAULT))


def embed(server: RunningServer, texts: list[str], **asked: int) -> tuple[np.ndarray, httpx.Headers]:
    response = server.client.post("/embed", params=asked, json={"inputs": texts})
    assert response.status_code == 200, response.text
    return np.array(response.json(), np.float32), response.headers


def test_promise_1_what_is_said_is_what_was_run(strata: RunningServer) -> None:
    folder = find(DEFAULT)
    manifest = read_manifest(folder)
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    tokenizer.no_padding()
    reference = Reference(folder, manifest)
    text = sentences()[0]
    at = reference.vectors(np.array(tokenizer.encode(text).ids, np.int32), manifest.exits)
    for layers, dim in ((1, 32), (3, 384), (6, 256), (12, 64), (12, 384)):
        vectors, headers = embed(strata, [text], layers=layers, dim=dim)
        np.testing.assert_allclose(vectors[0], cut(at[layers], dim), atol=1e-5)
        assert (headers["x-strata-layers"], headers["x-strata-dim"]) == (str(layers), str(dim))
        worths = (
            [manifest.quality.worth(task, layers, dim) for task in manifest.quality.tasks()] if manifest.quality else []
        )
        worth = min((worth for worth in worths if worth), key=lambda worth: worth.share, default=None)
        assert headers.get("x-strata-quality") == (None if worth is None else f"{worth.share:.4f}")
        assert headers.get("x-strata-task") == (None if worth is None else worth.task)


def test_promise_1_time_falls_with_layers(strata: RunningServer) -> None:
    texts = sentences()[:8]
    times: dict[int, list[float]] = {12: [], 6: [], 3: [], 1: []}
    for _ in range(5):
        for layers, found in times.items():
            began = time.perf_counter()
            embed(strata, texts, layers=layers)
            found.append(time.perf_counter() - began)
    medians = [statistics.median(found) for found in times.values()]
    assert medians == sorted(medians, reverse=True)
    assert medians[2] < 0.6 * medians[0], "3 of 12 layers; the figure itself is a benchmark's business"


def test_promise_2_a_vector_does_not_depend_on_the_company_it_keeps(strata: RunningServer) -> None:
    texts = sentences()[::2]  # the longest is among them
    alone = {layers: [embed(strata, [text], layers=layers)[0][0] for text in texts] for layers in (2, 12)}
    with ThreadPoolExecutor(4) as threads:  # both depths at once, so that batches are mixed
        jobs = [(layers, threads.submit(embed, strata, texts, layers=layers)) for layers in (2, 12) * 2]
        for layers, job in jobs:
            np.testing.assert_allclose(job.result()[0], alone[layers], atol=1e-5)


def test_promise_3_one_request_gets_one_depth(strata: RunningServer) -> None:
    _, headers = embed(strata, sentences(), layers=4)
    assert headers["x-strata-layers"] == "4"


def test_promise_5_no_answer_is_shallower_than_asked(strata: RunningServer) -> None:
    text = sentences()[:2]
    with ThreadPoolExecutor(16) as threads:
        asked = [1 + i % 12 for i in range(36)]
        jobs = [threads.submit(embed, strata, text, layers=layers) for layers in asked]
        assert [int(job.result()[1]["x-strata-layers"]) for job in jobs] == asked


def test_promise_6_memory_is_flat_under_load(strata: RunningServer) -> None:
    def resident() -> float:
        text = strata.client.get("/metrics").text
        return sum(float(v) for v in re.findall(r"^strata_process_resident_bytes\{.*\} (\S+)", text, re.M))

    texts = sentences()[:-1]  # the longest has about as many tokens as all others

    def load() -> None:
        with ThreadPoolExecutor(8) as threads:
            for job in [threads.submit(embed, strata, texts, layers=1 + i % 3) for i in range(20)]:
                job.result()

    load()
    sizes = [resident()]
    assert sizes[0] > 0
    while len(sizes) < 2 or (sizes[-1] >= 1.01 * sizes[-2] and len(sizes) < 4):  # batches differ, and so do buffers
        load()
        sizes.append(resident())
    assert sizes[-1] < 1.01 * sizes[-2], sizes


def test_promise_7_liveness_never_waits_for_the_engine(start_server: ServerFactory, tiny_bundle: Path) -> None:
    """A stopped engine answers nothing; the front still says that it lives."""
    server = start_server(tiny_bundle)
    engine = [*server.hosts, *server.workers]
    for pid in engine:
        os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as threads:
            stuck = threads.submit(embed, server, ["river"])
            time.sleep(0.1)
            began = time.perf_counter()
            assert server.client.get("/health").status_code == 200
            assert server.client.get("/metrics").status_code == 200
            assert time.perf_counter() - began < 1
            for pid in engine:
                os.kill(pid, signal.SIGCONT)
            assert stuck.result()[0].shape == (1, 32), "what was accepted is answered when the engine comes back"
    finally:
        for pid in engine:
            os.kill(pid, signal.SIGCONT)


def test_promise_8_nothing_is_fetched_and_nothing_is_unpickled(
    start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_WATCH)
    told = tmp_path / "told"
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    watched = {"PYTHONPATH": paths, "WATCHED": str(told)}
    server = start_server(tiny_bundle, "--backend", "torch", env=watched)
    embed(server, ["river"], layers=2)
    server.stop()
    assert not told.exists(), told.read_text()


def test_promise_8_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    """The test above can fail: the same hook notices a connection and a pickle."""
    (tmp_path / "sitecustomize.py").write_text(_WATCH)
    code = (
        "import pickle, socket, collections\n"
        "pickle.loads(pickle.dumps(collections.OrderedDict()))\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.2', 9))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "WATCHED": str(tmp_path / "told")}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    seen = (tmp_path / "told").read_text()
    assert "pickle.find_class" in seen
    assert "socket.connect" in seen
