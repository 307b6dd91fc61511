"""Vectors of a running server, as its clients get them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import numpy as np

from strata.model_store.bundle.prompts import InputType
from strata.model_store.encoding.reference import Vectors
from strata.model_store.profiling.encoders import Told

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

    def embed(self, texts: Sequence[str], layers: int, dim: int, input_type: InputType | None) -> Vectors:
        """Vectors [texts, dim] at one depth. Raises ServerError, also when it ran another depth than it was asked."""
        body = {"inputs": list(texts), "truncate": True}
        asked = {"layers": layers, "dim": dim} | ({"input_type": input_type} if input_type else {})
        answer = self._request("POST", "/embed", params=asked, json=body)
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


class ServerEncoder:
    """An `Encoder` of one dim: each exit asked for as ``?layers=&dim=`` and answered by the server."""

    def __init__(self, server: Server, layers: int, dim: int, told: Told) -> None:
        self.layers = layers
        self.dim = dim
        self._server = server
        self._told = told

    def encode(
        self, texts: Sequence[str], exits: Sequence[int], input_type: InputType | None = None
    ) -> Mapping[int, Vectors]:
        """See `Encoder`; a text that comes twice is sent once."""
        distinct = list(dict.fromkeys(texts))
        place = {text: i for i, text in enumerate(distinct)}
        rows = [place[text] for text in texts]
        found = {}
        for layers in exits:
            parts = []
            for start in range(0, len(distinct), _TEXTS):
                sent = [text or " " for text in distinct[start : start + _TEXTS]]
                parts.append(self._server.embed(sent, layers, self.dim, input_type))
                self._told(sum(map(len, sent)))
            found[layers] = np.concatenate(parts)[rows]
        return found
