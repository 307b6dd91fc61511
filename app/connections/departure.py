"""A client that leaves before its answer: what was done for it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TypeVar

from starlette.requests import Request

Result = TypeVar("Result")

# In a request's scope, where the server is ours: told None or what is to be called when the client closes.
ON_DEPARTURE = "strata.on_departure"


class ClientLeft(Exception):  # noqa: N818 - reads as what happened
    """The client closed its connection; there is nobody to answer."""


async def while_connected(request: Request, work: Coroutine[None, None, Result]) -> Result:
    """Await ``work``, but cancel it and raise ClientLeft when the client closes its connection first.

    The body must have been read. The work stays in the request's own task: racing two tasks costs a request 20 us.
    """
    task = asyncio.current_task()
    assert task is not None
    left = False

    def leave() -> None:
        nonlocal left
        left = True
        task.cancel()

    unwatch = _watch(request, leave)
    try:
        return await work
    except asyncio.CancelledError:
        if not left:
            raise
        task.uncancel()
        raise ClientLeft from None
    finally:
        unwatch()


def _watch(request: Request, leave: Callable[[], None]) -> Callable[[], object]:
    """Have ``leave`` called when the client closes its connection; what is returned ends that."""
    tell: Callable[[Callable[[], None] | None], None] | None = request.scope.get(ON_DEPARTURE)
    if tell is not None:
        tell(leave)
        return lambda: tell(None)

    async def watch() -> None:  # before another server: all that it can still say is that the client left
        await request.receive()
        leave()

    return asyncio.create_task(watch()).cancel
