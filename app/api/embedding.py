"""The way of an embedding request, from its parsed body to its vectors."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from time import perf_counter
from typing import TypeVar

from starlette.requests import Request
from starlette.types import Receive

from app.api.answer import Embedded
from app.api.errors import BATCH_SIZE, EMPTY, ClientLeft, Refusal
from app.api.visit import Visit
from app.planning.plan import Ask
from app.planning.tier import DEFAULT
from app.service import Service
from app.tokenizer import Encode

Result = TypeVar("Result")


async def embed(
    request: Request,
    inputs: Sequence[str] | Sequence[list[int]],
    ask: Ask,
    how: Encode,
    *,
    method: str,
    normalize: bool = True,
) -> Embedded:
    """Embed the inputs of a request. Raises what `errors.refusal_of` knows, and ClientLeft."""
    service: Service = request.app.state.service
    visit = Visit.of(request.scope)
    visit.facts["texts"] = len(inputs)
    metrics = service.metrics
    metrics.request_started(method, len(inputs))

    served = service.served()
    check_size(service, len(inputs), how.field)
    terms = served.planner.terms(ask, DEFAULT)
    with service.seat():
        served.scheduler.check_room(len(inputs), 0)
        started = perf_counter()
        tokens = await served.tokenizer.encode(inputs, how)
        tokenization_s = perf_counter() - started
        submitted = served.scheduler.submit(tokens, terms, arrived=visit.started, normalize=normalize)
        answer = await while_connected(request.receive, submitted)

    total_s = visit.seconds
    visit.facts |= {"layers": answer.layers, "dim": answer.dim, "tokens": answer.tokens}
    metrics.request_answered(
        method,
        len(inputs),
        answer.dim,
        total=total_s,
        tokenization=tokenization_s,
        queue=answer.queue_s,
        inference=answer.inference_s,
    )
    return Embedded(
        answer=answer,
        model=served.label,
        quality=served.quality(answer.layers, answer.dim),
        device=served.device,
        characters=sum(map(len, inputs)),
        tokenization_s=tokenization_s,
        total_s=total_s,
    )


def check_size(service: Service, texts: int, field: str) -> None:
    """Refuse a request without texts, or with more than the server takes at once."""
    if not texts:
        raise Refusal(EMPTY, f"`{field}` cannot be empty", field)
    limit = service.settings.max_client_batch_size
    if texts > limit:
        raise Refusal(BATCH_SIZE, f"batch size {texts} > maximum allowed batch size {limit}", field)


async def while_connected(receive: Receive, work: Coroutine[None, None, Result]) -> Result:
    """Await ``work``, but cancel it and raise ClientLeft when the client closes its connection first.

    The body must have been read: all that can still be received is that the client left. The work stays in the
    request's own task and only the watching gets another, which costs a request 5 us; racing two tasks costs 20.
    """
    task = asyncio.current_task()
    assert task is not None
    left = False

    async def watch() -> None:
        nonlocal left
        await receive()
        left = True
        task.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if not left:
            raise
        task.uncancel()
        raise ClientLeft from None
    finally:
        watcher.cancel()
