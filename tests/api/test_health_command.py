"""`strata health`, which the image's health check is: it finds the server wherever its options put it.

It knows a server by its command line, so these are started by it.
"""

from __future__ import annotations

import io
import os
import signal
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from strata.app.cli import main
from tests.conftest import SMALL, STRATA, RunningServer, ServerFactory


def health(pid: int) -> tuple[int, str]:
    """The exit status, and the line of one server: others may run on this machine."""
    told = io.StringIO()
    with redirect_stdout(told):
        status = main(["health"])
    lines = [line for line in told.getvalue().splitlines() if line.startswith(f"process {pid}:")]
    return status, lines[0] if lines else ""


@pytest.mark.parametrize(
    "flags",
    [(), ("--host", "::", "--insecure"), ("--host", "0.0.0.0", "--insecure", "--operations-port", "0"), ("--uds",)],
    ids=["a port", "every address", "two ports", "a unix socket"],
)
def test_it_follows_the_server(
    start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    if flags == ("--uds",):
        flags = ("--uds", str(tmp_path / "strata.sock"))
    server = start_server(tiny_bundle, *flags, strata=STRATA)
    _, line = health(server.process.pid)
    assert "alive at" in line
    assert (str(tmp_path / "strata.sock") if "--uds" in flags else f":{server.port}") in line
    server.process.kill()
    server.process.wait()
    assert health(server.process.pid)[1] == ""


def test_a_server_that_stands_still_is_not_healthy(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, strata=STRATA)
    os.kill(server.process.pid, signal.SIGSTOP)
    status, line = health(server.process.pid)
    assert (status, "no answer" in line) == (1, True)
    os.kill(server.process.pid, signal.SIGCONT)
    assert "alive" in health(server.process.pid)[1]


def test_what_waits_for_the_server_is_not_asked(tiny_bundle: Path, tmp_path: Path) -> None:
    """As tini does in the image: the same words behind its own, and no socket."""
    server = RunningServer(tiny_bundle, tmp_path / "log", *SMALL, strata=["timeout", "60", *STRATA])
    try:
        server.await_ready()
        assert health(server.process.pid)[1] == ""
        (inner,) = server.hosts  # the child of the one that waits
        assert "alive" in health(inner)[1]
    finally:
        server.stop()
