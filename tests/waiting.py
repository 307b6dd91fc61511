"""Waiting for servers that a test starts in its own way."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

import httpx


def await_ready(address: str, process: subprocess.Popen[bytes], seconds: float, told: Callable[[], str]) -> None:
    """Until `/ready` says so; fails with what the server ``told`` where it ends, or does not get there in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, told()
        try:
            if httpx.get(f"{address}/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(told())
