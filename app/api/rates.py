"""The rate of a key: texts a second, of which none is spent on a request that is refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from strata.app.api.refusals import RATE_LIMITED, Refusal, retry_after
from strata.app.callers.bucket import Bucket
from strata.app.callers.callers import Caller
from strata.app.connections.departure import ClientLeft
from strata.app.scheduling.errors import EngineFailure
from strata.app.telemetry.metrics import Metrics

# What was run for nothing is spent all the same.
_SPENT = (EngineFailure, ClientLeft)
_NO_RATE = nullcontext()


def rate_taken(caller: Caller, texts: int, metrics: Metrics) -> AbstractContextManager[None]:
    """Take ``texts`` from the caller's rate, and give them back where the request is refused inside.

    Entering raises Refusal for texts beyond the rate.
    """
    return _NO_RATE if caller.bucket is None else _taken(caller, caller.bucket, texts, metrics)


@contextmanager
def _taken(caller: Caller, bucket: Bucket, texts: int, metrics: Metrics) -> Iterator[None]:
    if wait := bucket.take(texts):
        metrics.tier_refused(caller.own.name, "rate")
        message = f"the rate of {bucket.rate:g} texts/s is used up; {texts} more can come in {wait:.1f} s"
        raise Refusal(RATE_LIMITED, message, headers=retry_after(wait))
    try:
        yield
    except Exception as error:
        if not isinstance(error, _SPENT):
            bucket.give_back(texts)
        raise
