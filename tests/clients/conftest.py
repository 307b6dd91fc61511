"""What the server itself answers, for the clients' vectors to be held against."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from tests.conftest import RunningServer, ServerFactory

TEXTS = ["the river and the mountain", "winter", "A quiet morning train to Nairobi, always late."]
TOO_LONG = "river " * 400

Rows = npt.NDArray[np.float64]
Embed = Callable[..., Rows]


@pytest.fixture
def full(start_server: ServerFactory, tiny_bundle: Path) -> Iterator[RunningServer]:
    """A server whose only seat is taken."""
    server = start_server(tiny_bundle, "--max-concurrent-requests", "1")
    with server.engine_held(), ThreadPoolExecutor(1) as thread:
        taken = thread.submit(server.client.post, "/embed", json={"inputs": TEXTS})
        deadline = time.monotonic() + 10
        while "strata_requests_in_progress 1.0" not in server.client.get("/metrics").text:
            assert time.monotonic() < deadline, "the request never came in"
            time.sleep(0.01)
        yield server
        server.process.kill()
        assert isinstance(taken.exception(), httpx.TransportError)


@pytest.fixture
def embed(client: httpx.Client) -> Embed:
    """Vectors of texts by a plain POST /embed: ``embed(texts, layers=2)``, [texts, dim]."""

    def post(texts: Sequence[str], **fields: Any) -> Rows:
        response = client.post("/embed", json={"inputs": list(texts), **fields})
        assert response.status_code == 200, response.text
        return np.array(response.json())

    return post


def same(found: Any, expected: Rows) -> None:
    """Hold vectors against those the server gave to a plain request."""
    assert np.shape(found) == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)
