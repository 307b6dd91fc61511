"""The similarity measurement through a running server, as its clients see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
from tqdm import tqdm

from strata.model_store.encoding.reference import Vectors
from strata.model_store.profiling.sts import StsPairs, StsResult, cosine_spearman

_TEXTS = 64  # of a request


class ServerError(ValueError):
    """The server does not answer as a Strata server would; the message says how."""


class Server:
    """A running `strata serve`. Close it, or use it as a context."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=300)
        self._url = url

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self._client.close()

    def info(self) -> dict[str, Any]:
        """What the server says of its model. Raises ServerError."""
        found: dict[str, Any] = self._json("GET", "/info")
        if "exits" not in found or "dims" not in found:
            raise ServerError(f"{self._url}: /info names no exits and dims; is it a Strata server?")
        return found

    def embed(self, texts: Sequence[str], layers: int, dim: int) -> Vectors:
        """Vectors [texts, dim] at one depth. Raises ServerError, also when it ran another depth than it was asked."""
        body = {"inputs": list(texts), "truncate": True}
        answer = self._request("POST", "/embed", params={"layers": layers, "dim": dim}, json=body)
        ran = answer.headers.get("x-strata-layers"), answer.headers.get("x-strata-dim")
        if ran != (str(layers), str(dim)):
            raise ServerError(f"{self._url}: asked for layers {layers}, dim {dim}; it ran {ran[0]}, {ran[1]}")
        return np.array(answer.json(), np.float32)

    def _json(self, method: str, path: str) -> Any:
        return self._request(method, path).json()

    def _request(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **more)
        except httpx.HTTPError as error:
            raise ServerError(f"{self._url}: {error}") from error
        if answer.status_code != 200:
            raise ServerError(f"{self._url}{path}: {answer.status_code} {answer.text[:300]}")
        return answer


def measure_sts_over_http(
    server: Server, pairs: StsPairs, exits: Sequence[int], dims: Sequence[int], progress: bool = False
) -> StsResult:
    """Spearman x 100 at every exit and dim, each asked for as ``?layers=&dim=`` and answered by the server."""
    texts = list(dict.fromkeys(pairs.first + pairs.second))
    place = {text: i for i, text in enumerate(texts)}
    first, second = ([place[text] for text in side] for side in (pairs.first, pairs.second))
    scores: dict[int, dict[int, float]] = {}
    with tqdm(total=len(exits) * len(dims) * len(texts), desc=pairs.name, unit="text", disable=not progress) as bar:
        for layers in exits:
            for dim in dims:
                parts = []
                for start in range(0, len(texts), _TEXTS):
                    parts.append(server.embed(texts[start : start + _TEXTS], layers, dim))
                    bar.update(len(parts[-1]))
                vectors = np.concatenate(parts)
                score = cosine_spearman(vectors[first], vectors[second], pairs.scores, dim)
                scores.setdefault(layers, {})[dim] = score
    return StsResult(pairs.name, len(first), scores)
