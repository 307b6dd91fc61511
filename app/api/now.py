"""`GET /now`: the last seconds, one sample a second, for people and scripts that look."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from strata.app.api.ask import refuse_asks, size_of
from strata.app.api.plain_route import PlainRoute
from strata.app.api.refusals import answers
from strata.app.api.responses import json_response
from strata.app.lifecycle import Lifecycle
from strata.app.telemetry.recorder import EVERY_S, KEPT, Recorder

router = APIRouter(route_class=PlainRoute, tags=["operations"])

_USUAL = 60
_DOCS = [
    {
        "name": "seconds",
        "in": "query",
        "schema": {"type": "integer", "minimum": 1, "maximum": KEPT, "default": _USUAL},
        "description": "How far back. Recording begins at the first look and ends half a minute after the last.",
    }
]


class TierSample(BaseModel):
    """Requests of one tier in one sample."""

    answered: int
    in_time: int
    refused: int
    expired: int
    failed: int


class WorkerSample(BaseModel):
    """Engine workers at the end of a sample."""

    wanted: int
    alive: int
    idle: int


class Sample(BaseModel):
    """About one second. Times in milliseconds; null: nothing was answered, or nothing had a deadline."""

    at: float = Field(description="Its end, in Unix seconds.")
    seconds: float = Field(description="Its length.")
    requests_per_s: float = Field(description="Requests answered a second.")
    refused: int = Field(description="Requests refused on arrival.")
    expired: int = Field(description="Requests given up while they waited.")
    failed: int = Field(description="Requests that the engine failed on.")
    layers: dict[str, int] = Field(description="Requests answered, by the layers they were run to.")
    level: int = Field(description="Layers that the scheduler aims at.")
    p50_ms: float | None = Field(description="From arrival to answer, median.")
    p99_ms: float | None = Field(description="The same, 99th percentile.")
    predicted_p50_ms: float | None = Field(description="What was foreseen at arrival, median.")
    deadline_ms: float | None = Field(description="Median deadline of the requests that had one.")
    tiers: dict[str, TierSample]
    queue_texts: int
    queue_tokens: int
    queue_oldest_ms: float
    workers: WorkerSample
    busy: float = Field(description="Share of the workers' time that was spent on batches.")


class NowAnswer(BaseModel):
    """The server's state, and its last seconds."""

    state: str
    model: str | None
    every_s: float
    samples: list[Sample]


@router.get("/now", openapi_extra={"parameters": _DOCS}, responses=answers(NowAnswer, 401, 422))
async def now(request: Request) -> Response:
    """Load, depth, times against deadlines, tiers and queue of the last seconds, one sample a second."""
    refuse_asks(request.scope)
    lifecycle: Lifecycle = request.app.state.lifecycle
    recorder: Recorder = request.app.state.recorder
    seconds = size_of(request.scope, "seconds", _USUAL, KEPT)
    samples = await recorder.look(seconds)
    return json_response({"state": lifecycle.state, "model": lifecycle.label, "every_s": EVERY_S, "samples": samples})
