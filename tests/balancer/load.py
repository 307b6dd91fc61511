"""Clients that never stop asking, and remember every answer that was not one."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Self

import httpx

BODY = {"inputs": ["river bread coffee window " * 8] * 24}
LARGE = {"inputs": ["river bread coffee window " * 780] * 24}  # 0.49 MB: about as much as the balancer keeps


class Load:
    """``clients`` connections, each sending its next request when the last is answered; a context manager."""

    def __init__(
        self,
        url: str,
        clients: int = 6,
        path: str = "/embed?layers=2",
        *,
        body: dict[str, list[str]] = BODY,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._url, self._body, self._headers = url + path, body, headers
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _ask(self) -> None:
        with httpx.Client(timeout=30, headers=self._headers) as client:
            while not self._stop.is_set():
                try:
                    response = client.post(self._url, json=self._body)
                    failure = None if response.status_code == 200 else f"{response.status_code} {response.text[:200]}"
                    if failure is None and len(response.json()) != len(self._body["inputs"]):
                        failure = "an answer of the wrong length"
                except httpx.HTTPError as error:
                    failure = repr(error)
                with self._lock:
                    if failure is None:
                        self.answered += 1
                    else:
                        self.failures.append(failure)
                if failure:
                    self._stop.wait(0.05)
