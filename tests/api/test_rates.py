"""A key's rate is spent on what is run, not on what is refused."""

from __future__ import annotations

import pytest

from strata.app.api.rates import rate_taken
from strata.app.api.refusals import Refusal
from strata.app.callers.bucket import Bucket
from strata.app.callers.callers import Caller
from strata.app.callers.tier import Tier
from strata.app.connections.departure import ClientLeft
from strata.app.planning.plan import PlanRefused
from strata.app.scheduling.errors import DeadlinePassed, EngineFailure, NotServing, Overloaded
from strata.app.telemetry.metrics import Metrics
from strata.app.tokenizer import TextRefused

REFUSED = (
    Overloaded("full", 1.0),
    NotServing("draining"),
    DeadlinePassed("too late"),
    PlanRefused("dim", "no such dim"),
    TextRefused("inputs", "too long"),
)


def keyed() -> Caller:
    return Caller((Tier("bulk", rate=0.001, burst=5),), 0, Bucket(0.001, 5))


@pytest.mark.parametrize(
    ("error", "given_back"), [(e, True) for e in REFUSED] + [(EngineFailure("broke"), False), (ClientLeft(), False)]
)
def test_texts_that_are_refused_further_on_are_given_back(error: Exception, given_back: bool) -> None:
    caller, metrics = keyed(), Metrics()
    with pytest.raises(type(error)), rate_taken(caller, 5, metrics):
        raise error
    if given_back:
        with rate_taken(caller, 5, metrics):
            pass
    else:
        with pytest.raises(Refusal, match="used up"), rate_taken(caller, 5, metrics):
            pass
