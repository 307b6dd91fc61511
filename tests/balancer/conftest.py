"""Debian's haproxy, with the configuration that ships, before plain `strata serve` processes."""

from __future__ import annotations

import csv
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.balancer.debian import Program, Unavailable, program

POLICY = Path(__file__).parents[2] / "docker" / "haproxy" / "haproxy.cfg"


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


@pytest.fixture(scope="session")
def haproxy(pytestconfig: pytest.Config) -> Program:
    """The program; skips where it cannot be had."""
    assert pytestconfig.cache is not None
    try:
        return program("haproxy", "haproxy", pytestconfig.cache.mkdir("debian"))
    except Unavailable as reason:
        pytest.skip(str(reason))


class Balancer:
    """A running haproxy before servers on loopback ports."""

    def __init__(self, haproxy: Program, folder: Path, ports: list[int]) -> None:
        servers = "".join(f"    server replica-{i} 127.0.0.1:{port}\n" for i, port in enumerate(ports))
        (folder / "replicas.cfg").write_text(f"backend strata\n{servers}")
        door, stats = free_ports(2)
        self.url, self.stats_url = f"http://127.0.0.1:{door}", f"http://127.0.0.1:{stats}"
        binds = {"STRATA_BIND": f"127.0.0.1:{door}", "STRATA_STATS_BIND": f"127.0.0.1:{stats}"}
        self.log = folder / "haproxy.log"
        with self.log.open("wb") as sink:
            self.process = subprocess.Popen(
                [haproxy.path, "-W", "-db", "-f", str(POLICY), "-f", str(folder / "replicas.cfg")],
                env={**haproxy.env, **binds},
                stdout=sink,
                stderr=sink,
            )

    def rows(self) -> dict[str, dict[str, str]]:
        """Its statistics of the backend, by server; the sum is "BACKEND"."""
        lines = httpx.get(f"{self.stats_url}/;csv").text.lstrip("# ").splitlines()
        return {row["svname"]: row for row in csv.DictReader(lines) if row["pxname"] == "strata"}

    def up(self) -> set[str]:
        """The servers that get requests."""
        return {name for name, row in self.rows().items() if row["status"].startswith("UP") and name != "BACKEND"}

    def await_up(self, count: int) -> None:
        """Wait until so many servers get requests."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if len(self.up()) == count:
                    return
            except httpx.TransportError:
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)
        raise AssertionError(f"not {count} servers up: {self.rows()}\n{self.log.read_text()}")

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(timeout=10)
