"""The way of an embedding request, from its parsed body to its vectors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from time import perf_counter
from typing import TypeVar

from starlette.requests import Request
from starlette.types import Receive

from strata.app.api.refusals import BATCH_SIZE, EMPTY, RATE_LIMITED, ClientLeft, Refusal, retry_after
from strata.app.api.responses import Embedded
from strata.app.callers.callers import Caller
from strata.app.metrics import Metrics
from strata.app.planning.feasibility import check_feasible
from strata.app.planning.plan import Ask, Infeasible, Terms
from strata.app.request_context import RequestContext
from strata.app.scheduling.errors import DeadlinePassed, NotServing, Overloaded, TooBusy
from strata.app.service import Service
from strata.app.tokenizer import Encode

Result = TypeVar("Result")

_COUNTED_S = 0.05  # shorter deadlines are judged once the texts are counted: no server might meet them


async def embed(
    request: Request,
    inputs: Sequence[str] | Sequence[list[int]],
    ask: Ask,
    how: Encode,
    *,
    method: str,
    normalize: bool = True,
) -> Embedded:
    """Embed the inputs of a request, which are as many as it may have.

    Raises what `refusals.refusal_of` knows, and ClientLeft.
    """
    service: Service = request.app.state.service
    context = RequestContext.of(request.scope)
    context.facts["texts"] = len(inputs)
    metrics = service.metrics
    metrics.request_started(method, len(inputs))

    served = service.served()
    caller = context.caller
    assert caller is not None
    terms = served.planner.terms(ask, caller.tier(ask.tier))
    context.facts["tier"] = terms.tier
    check_rate(caller, len(inputs), metrics)
    scheduler = served.scheduler
    with refusals_counted(caller, len(inputs), metrics, terms.tier), service.seat():
        scheduler.check_room(len(inputs), 0, (terms.tier, caller.key or ""))
        started = perf_counter()
        async with deadline_kept(terms, context):
            tokens = await served.tokenizer.encode(inputs, how, terms.input_type)
        tokenization_s = perf_counter() - started
        check_queue_holds(service, sum(map(len, tokens)), how.field)
        if terms.deadline_s is not None:
            alone = partial(scheduler.alone, list(map(len, tokens)))
            check_feasible(terms, ask, served.planner.exits_of(terms.input_type), len(inputs), alone)
        submitted = scheduler.submit(
            tokens, terms, arrived=context.started, normalize=normalize, caller=caller.key or ""
        )
        answer = await while_connected(request.receive, submitted)

    total_s = context.seconds
    tokenized, sent = started + tokenization_s, context.started + answer.queue_s
    context.stages += [
        ("tokenize", started, tokenized),
        ("queue", tokenized, max(tokenized, sent)),
        ("inference", sent, sent + answer.inference_s),
    ]
    if caller.key:
        metrics.key_answered(caller.own.name, caller.key, len(inputs), answer.tokens)
    context.facts |= {"layers": answer.layers, "dim": answer.dim, "tokens": answer.tokens}
    metrics.request_answered(
        method,
        len(inputs),
        answer.dim,
        layers=answer.layers,
        input_type=terms.input_type,
        total=total_s,
        tokenization=tokenization_s,
        queue=answer.queue_s,
        inference=answer.inference_s,
    )
    apart = bool(answer.depths)  # each text at a depth of its own
    return Embedded(
        answer=answer,
        terms=terms,
        model=served.label,
        space=None if apart and terms.index is None else served.planner.space(answer.layers, terms),
        quality=None if apart else served.planner.quality(answer.layers, terms),
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


def check_queue_holds(service: Service, tokens: int, field: str) -> None:
    """Refuse a request that not even an empty queue would have room for."""
    limit = service.settings.max_queue_tokens
    if tokens > limit:
        message = f"`{field}`: a request may have {limit} tokens (--max-queue-tokens). Given: {tokens}"
        raise Refusal(BATCH_SIZE, message, field)


def check_rate(caller: Caller, texts: int, metrics: Metrics) -> None:
    """Refuse texts beyond the rate of the caller's key."""
    bucket = caller.bucket
    if bucket and (wait := bucket.take(texts)):
        metrics.tier_refused(caller.own.name, "rate")
        message = f"the rate of {bucket.rate:g} texts/s is used up; {texts} more can come in {wait:.1f} s"
        raise Refusal(RATE_LIMITED, message, headers=retry_after(wait))


@contextmanager
def refusals_counted(caller: Caller, texts: int, metrics: Metrics, tier: str) -> Iterator[None]:
    """Count a tier's requests that are refused, whose texts are not taken from the caller's rate.

    The scheduler counts those that would be late itself.
    """
    try:
        yield
    except (Overloaded, Infeasible, NotServing) as error:
        if caller.bucket:
            caller.bucket.give_back(texts)
        if not isinstance(error, TooBusy | NotServing):
            metrics.tier_refused(tier, "infeasible" if isinstance(error, Infeasible) else "queue")
        raise


@asynccontextmanager
async def deadline_kept(terms: Terms, context: RequestContext) -> AsyncIterator[None]:
    """Raise DeadlinePassed out of work that has not ended by then, such as waiting for a thread."""
    if terms.deadline_s is None or terms.deadline_s < _COUNTED_S:
        yield
        return
    try:
        async with asyncio.timeout(terms.deadline_s - context.seconds):
            yield
    except TimeoutError as error:
        raise DeadlinePassed(f"the deadline of {1000 * terms.deadline_s:.0f} ms has passed") from error


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
