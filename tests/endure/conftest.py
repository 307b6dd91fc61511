"""A server of its own for those who mean it harm, and what they do it with."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from strata.app.engine.memory import resident_bytes
from tests.conftest import RunningServer, ServerFactory

MB = 1_000_000


@pytest.fixture(scope="module")
def victim(start_session_server: ServerFactory, tiny_bundle: Path) -> RunningServer:
    """A server that hostile clients share; every test must leave it as able as it was."""
    return start_session_server(tiny_bundle)


def connect(server: RunningServer, *, timeout: float = 20.0) -> socket.socket:
    """A bare connection."""
    return socket.create_connection(("127.0.0.1", server.port), timeout=timeout)


@contextmanager
def connections_held(size: int) -> Iterator[None]:
    """Let this process hold the ends of so many connections; skip where it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < size + 500:
        pytest.skip(f"this process may open {hard} files; {size} connections need more")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, size + 500), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def head(path: str, length: int, *lines: str) -> bytes:
    """The head of a POST request."""
    more = "".join(f"{line}\r\n" for line in lines)
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def resident(server: RunningServer) -> int:
    """Bytes of memory of the front process."""
    return resident_bytes(server.process.pid)


def series(server: RunningServer, name: str) -> float:
    """A value from /metrics, by the whole beginning of its line."""
    lines = server.client.get("/metrics").text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def until(condition: Callable[[], object], seconds: float) -> float:
    """Wait for it; seconds it took."""
    began = time.monotonic()
    while not condition():
        took = time.monotonic() - began
        assert took < seconds, f"did not happen within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - began
