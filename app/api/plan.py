"""`GET /plan`: what a request would get now, and why; nothing is run."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from strata.app.api.ask import ASK_DOCS, ask_of, size_of
from strata.app.api.limits import RequestLimits
from strata.app.api.plain_route import PlainRoute
from strata.app.api.refusals import answers
from strata.app.api.responses import json_response
from strata.app.lifecycle import Lifecycle
from strata.app.planning.feasibility import check_feasible, why_not_deeper
from strata.app.request_context import RequestContext
from strata.model_store.bundle.output_types import OutputType
from strata.model_store.bundle.prompts import InputType
from strata.model_store.bundle.quality import Worth

router = APIRouter(route_class=PlainRoute, tags=["operations"])

_SIZE = {"type": "integer", "minimum": 1}
_DOCS = [
    *ASK_DOCS,
    {"name": "texts", "in": "query", "schema": {**_SIZE, "default": 1}, "description": "Texts in the request."},
    {"name": "tokens", "in": "query", "schema": {**_SIZE, "default": 32}, "description": "Tokens of each text."},
]


class PlanTerms(BaseModel):
    """What the request may be run at."""

    tier: str
    input_type: InputType | None
    task: str | None
    exits: list[int]
    dim: int
    output_dtype: OutputType
    deadline_ms: float | None


class Chosen(BaseModel):
    """What the scheduler would run now; ``quality`` is the mean over the sets of ``task``, ``worst_set`` the least."""

    layers: int
    dim: int
    quality: float | None
    task: str | None
    worst_set: float | None
    space: str | None
    predicted_ms: float
    in_time: bool | None


class Alternative(BaseModel):
    """An exit: what it is worth, what it takes, and why it is ruled out now (null: it is not)."""

    layers: int
    quality: float | None
    task: str | None
    empty_ms: float
    queued_ms: float
    ruled_out: str | None


class PlanAnswer(BaseModel):
    """A plan and its alternatives. Times from now to the answer: with nothing else to do, and behind the queue."""

    texts: int
    tokens: int
    terms: PlanTerms
    plan: Chosen
    alternatives: list[Alternative]


@router.get("/plan", openapi_extra={"parameters": _DOCS}, responses=answers(PlanAnswer, 401, 403, 422, 503))
async def plan(request: Request) -> Response:
    """The plan for `texts` texts of `tokens` tokens each, under the budget that the other parameters give."""
    lifecycle: Lifecycle = request.app.state.lifecycle
    limits: RequestLimits = request.app.state.limits
    served, caller = lifecycle.served(), RequestContext.of(request.scope).known_caller
    texts = size_of(request.scope, "texts", 1, limits.texts)
    tokens = size_of(request.scope, "tokens", 32, served.manifest.max_tokens)
    ask = ask_of(request.scope)
    planner, scheduler, lengths = served.planner, served.scheduler, [tokens] * texts
    explained = planner.explain(ask, caller.tier(ask.tier))
    terms = explained.terms
    exits = planner.exits_of(terms.input_type)
    empty = {layers: scheduler.alone(lengths, layers) for layers in exits}
    queued = {layers: max(empty[layers], scheduler.queued(lengths, layers)) for layers in exits}
    check_feasible(terms, ask, exits, texts, lambda layers: empty[layers])
    chosen = scheduler.plan(terms, lengths, caller.key or "")
    # With `layers=auto` each text gets a depth of its own, of which only the deepest is known beforehand.
    depths_differ = terms.threshold is not None
    worth = None if depths_differ else chosen.quality
    return json_response(
        {
            "texts": texts,
            "tokens": tokens,
            "terms": {
                "tier": terms.tier,
                "input_type": terms.input_type,
                "task": terms.task,
                "exits": terms.exits,
                "dim": terms.dim,
                "output_dtype": terms.output_dtype or "float",
                "deadline_ms": None if terms.deadline_s is None else _ms(terms.deadline_s),
            },
            "plan": {
                "layers": chosen.layers,
                "dim": chosen.dim,
                **_worth(worth),
                "worst_set": _share(worth.worst if worth else None),
                "space": None if depths_differ and terms.index is None else planner.space(chosen.layers, terms),
                "predicted_ms": _ms(chosen.predicted_s),
                "in_time": None if terms.deadline_s is None else chosen.predicted_s <= terms.deadline_s,
            },
            "alternatives": [
                {
                    "layers": layers,
                    **_worth(planner.quality(layers, terms)),
                    "empty_ms": _ms(empty[layers]),
                    "queued_ms": _ms(queued[layers]),
                    "ruled_out": explained.ruled_out.get(layers)
                    or why_not_deeper(layers, chosen.layers, queued[layers], terms.deadline_s),
                }
                for layers in exits
            ],
        }
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _worth(worth: Worth | None) -> dict[str, Any]:
    return {"quality": _share(worth.share if worth else None), "task": worth.task if worth else None}


def _share(share: float | None) -> float | None:
    return None if share is None else round(share, 4)
