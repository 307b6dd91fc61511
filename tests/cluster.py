"""What a cluster puts into the environment of a container, beside what its image and its operator say."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

DOCKERFILE = Path(__file__).parents[1] / "Dockerfile"

# Of Services called strata, strata-operations and strata-balancer, and of docker run --link.
LINKS = {
    "STRATA_PORT": "tcp://10.96.0.12:80",
    "STRATA_PORT_80_TCP": "tcp://10.96.0.12:80",
    "STRATA_PORT_80_TCP_ADDR": "10.96.0.12",
    "STRATA_PORT_80_TCP_PORT": "80",
    "STRATA_PORT_80_TCP_PROTO": "tcp",
    "STRATA_PORT_8080_TCP_ADDR": "10.96.0.12",
    "STRATA_PORT_9000_UDP": "udp://[fd00:10:96::c]:9000",
    "STRATA_SERVICE_HOST": "10.96.0.12",
    "STRATA_SERVICE_PORT": "80",
    "STRATA_SERVICE_PORT_HTTP": "80",
    "STRATA_OPERATIONS_PORT": "tcp://10.96.0.13:8081",  # of a Service called strata-operations
    "STRATA_OPERATIONS_SERVICE_HOST": "10.96.0.13",
    "STRATA_BALANCER_PORT": "tcp://10.96.0.14:8404",
    "STRATA_BALANCER_SERVICE_PORT_STATS": "8404",
    "STRATA_NAME": "/app/strata",  # of docker run --link
    "STRATA_ENV_PYTHON_VERSION": "3.11",
}


def environment() -> dict[str, str]:
    """What the image says, as its Dockerfile has it."""
    text = DOCKERFILE.read_text().replace("\\\n", " ").partition(" AS base")[2]
    (line,) = re.findall(r"(?m)^ENV (PATH=.*)$", text)
    return dict(word.split("=", 1) for word in shlex.split(line))


def command() -> list[str]:
    """What the image runs: its ENTRYPOINT and CMD."""
    parts = re.findall(r"(?m)^(?:ENTRYPOINT|CMD) (\[.*\])$", DOCKERFILE.read_text())
    assert len(parts) == 2
    return [word for part in parts for word in json.loads(part)]
