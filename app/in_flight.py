"""What is in flight: the requests that are being answered and the bytes of their bodies, both bounded."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

from strata.app.scheduling.errors import NotServing, Overloaded

_RETRY_S = 1.0


class InFlight:
    """At most ``requests`` at once, whose bodies take at most ``body_bytes`` together."""

    def __init__(self, requests: int, body_bytes: int) -> None:
        self._most_requests = requests
        self._most_bytes = body_bytes
        self._bytes = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._evicted: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        """Requests that have a slot."""
        return len(self._tasks)

    def hold(self, size: int) -> None:
        """Count ``size`` bytes more of a request's body. Raises Overloaded when all bodies would take too much."""
        if self._bytes + size > self._most_bytes:
            raise Overloaded(f"the bodies of all requests take {self._most_bytes} bytes (--payload-memory)", _RETRY_S)
        self._bytes += size

    def release(self, size: int) -> None:
        """A request whose body took so many bytes is over."""
        self._bytes -= size

    def slot(self) -> Slot:
        """A slot for the task that asks, as a context."""
        return Slot(self)

    def evict_all(self) -> bool:
        """Have every request in flight answered with NotServing; whether there was any."""
        self._evicted = set(self._tasks)
        for task in self._evicted:
            task.cancel()
        return bool(self._evicted)

    def _enter(self) -> asyncio.Task[Any]:
        if len(self._tasks) >= self._most_requests:
            message = f"as many requests are in progress as are accepted: {self._most_requests}"
            raise Overloaded(message, _RETRY_S)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        return task

    def _leave(self, task: asyncio.Task[Any]) -> bool:
        """End a task's slot; whether it was evicted."""
        self._tasks.discard(task)
        return task in self._evicted


class Slot:
    """Entering raises Overloaded when all slots are taken, leaving NotServing where the request was evicted."""

    __slots__ = ("_in_flight", "_task")

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight

    def __enter__(self) -> None:
        self._task = self._in_flight._enter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._in_flight._leave(self._task) and isinstance(error, asyncio.CancelledError):
            self._task.uncancel()
            raise NotServing("the server shut down before this request was answered") from None
