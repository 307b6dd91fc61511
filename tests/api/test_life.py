"""Promise 7 and the end of a server: liveness never waits, readiness tells the truth, accepted work is answered."""

from __future__ import annotations

import concurrent.futures
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.conftest import RunningServer, ServerFactory
from tests.endure.conftest import until

HEAVY = {"inputs": ["river bread coffee window " * 10] * 250}  # a second or so of work for one small worker


def embed(server: RunningServer, body: object) -> httpx.Response:
    return server.client.post("/embed", json=body)


def await_queue(server: RunningServer) -> None:
    """Wait until texts are waiting."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if not re.search(r"^te_queue_size 0\.0$", server.client.get("/metrics").text, re.M):
            return
        time.sleep(0.01)
    raise AssertionError("nothing is waiting")


def test_while_loading_it_is_alive_but_not_ready(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, ready=False)
    assert server.client.get("/health").status_code == 200
    early = server.client.get("/ready")
    if early.status_code != 200:  # it loads in a moment
        assert early.status_code == 503
        assert "loading" in early.json()["error"]
        assert embed(server, {"inputs": "river"}).status_code in (200, 503)
    server.await_ready()
    assert embed(server, {"inputs": "river"}).status_code == 200


def test_sigterm_without_work_ends_at_once_with_status_zero(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle)
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 5


def test_sigterm_under_load_answers_what_was_accepted_and_refuses_the_rest(
    start_server: ServerFactory, tiny_bundle: Path
) -> None:
    server = start_server(tiny_bundle, "--max-batch-tokens", "500")
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        with server.engine_held():
            accepted = [threads.submit(embed, server, {"inputs": HEAVY["inputs"][:60]}) for _ in range(3)]
            until(lambda: "strata_requests_in_progress 3.0" in server.client.get("/metrics").text, 20)
            server.terminate()
            server.await_logged("draining")
            ready, health, late = (
                server.client.get("/ready"),
                server.client.get("/health"),
                embed(server, {"inputs": "river"}),
            )
        assert (ready.status_code, health.status_code, late.status_code) == (503, 200, 503)
        assert "draining" in ready.json()["error"]
        assert late.json()["error_type"] == "Unhealthy"
        for request in accepted:
            response = request.result()
            assert response.status_code == 200
            assert len(response.json()) == 60
    assert server.process.wait(timeout=20) == 0


def test_the_wait_for_accepted_work_is_bounded(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, "--drain-seconds", "0.2", "--max-batch-tokens", "200")
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        requests = [threads.submit(embed, server, HEAVY) for _ in range(4)]
        await_queue(server)
        started = time.monotonic()
        server.terminate()
        assert server.process.wait(timeout=20) == 1
        assert time.monotonic() - started < 10
        for request in requests:
            response = request.result()
            assert response.status_code in (200, 503)
            if response.status_code == 503:  # given up, or come too late
                assert any(told in response.json()["error"] for told in ("shut down", "shutting down"))


def test_a_second_signal_ends_it_at_once(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, "--max-batch-tokens", "200")
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        request = threads.submit(embed, server, HEAVY)
        await_queue(server)
        server.terminate()
        server.await_logged("draining")
        started = time.monotonic()
        server.terminate()
        assert server.process.wait(timeout=10) == 1, "what it had accepted is not answered"
        assert time.monotonic() - started < 5
        request.exception()


def test_a_killed_engine_worker_is_replaced_while_the_front_keeps_answering(
    start_server: ServerFactory, tiny_bundle: Path
) -> None:
    server = start_server(tiny_bundle)
    killed = server.workers
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    started = time.monotonic()
    assert server.client.get("/health").status_code == 200
    while (answer := embed(server, {"inputs": "river"})).status_code != 200:  # for a moment there is no worker
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert time.monotonic() - started < 20
    server.await_ready()
    assert "strata_worker_restarts_total 1.0" in server.client.get("/metrics").text


def test_sigterm_while_loading_ends_at_once_and_leaves_no_process(
    start_server: ServerFactory, tiny_bundle: Path
) -> None:
    server = start_server(tiny_bundle, ready=False)
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    deadline = time.monotonic() + 10
    while not (found := children.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.005)
    started = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - started < 10
    until(lambda: not [pid for pid in found if Path(f"/proc/{pid}").exists()], 5)


def test_a_dtype_that_the_backend_lacks_is_refused_before_anything_listens(tiny_bundle: Path) -> None:
    serve = ["serve", "--model", str(tiny_bundle), "--port", "0", "--backend", "onnxruntime", "--dtype", "bfloat16"]
    command = [sys.executable, "-P", "-m", "strata.app.cli", *serve]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert result.returncode == 2
    assert result.stderr == "strata serve: --dtype: bfloat16 is not available on cpu (onnxruntime: float32, int8)\n"


def test_an_engine_that_cannot_start_ends_the_server_with_the_reason(
    start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('a broken installation')\n")
    server = start_server(tiny_bundle, ready=False, env={"PYTHONPATH": str(tmp_path)})
    assert server.process.wait(timeout=30) == 1
    assert "a broken installation" in server.text()
    assert "the engine host (onnxruntime) died" in server.text()


def test_an_answer_comes_whole_so_that_a_kill_cannot_cut_it_in_two(server: RunningServer) -> None:
    """A balancer asks another replica only where nothing came yet."""
    body = b'{"inputs": "river"}'
    head = f"POST /embed HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        for _ in range(200):
            connection.sendall(head.encode() + body)
            first = connection.recv(65536)
            assert first.startswith(b"HTTP/1.1 200 OK\r\n")
            assert first.endswith(b"]]"), "the head came alone"


def test_answers_without_a_body_and_to_clients_that_hang_up_come_too(server: RunningServer) -> None:
    assert server.client.head("/health").status_code == 200
    closing = server.client.get("/health", headers={"Connection": "close"})
    assert closing.status_code == 200
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(2 * b"HEAD /info HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        pipelined = b""
        while pipelined.count(b"HTTP/1.1 ") < 3:
            more = connection.recv(65536)
            assert more, "hung up"
            pipelined += more
    assert pipelined.count(b"HTTP/1.1 200") == 3
