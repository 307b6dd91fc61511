"""What the tests of files and of containers share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.balancer.debian import Program, Unavailable, program

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"


@pytest.fixture(scope="session")
def promtool(pytestconfig: pytest.Config) -> Program:
    """Prometheus' own checker; skips where it cannot be had."""
    assert pytestconfig.cache is not None
    try:
        return program("promtool", "prometheus", pytestconfig.cache.mkdir("debian"))
    except Unavailable as reason:
        pytest.skip(str(reason))
