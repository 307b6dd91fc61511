"""What operators and their machines ask: is it alive, is it ready, what does it serve, how is it doing."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from strata import __version__
from strata.app.api.ask import refuse_asks
from strata.app.api.plain_route import PlainRoute
from strata.app.api.refusals import TEI_ERRORS, UNHEALTHY, Refusal
from strata.app.api.responses import JSON, json_response
from strata.app.connections.ports import Ports
from strata.app.lifecycle import Lifecycle
from strata.app.served import Served
from strata.app.settings import Settings
from strata.app.telemetry.metrics import Metrics
from strata.app.tiers import Tiers
from strata.model_store.bundle.quality import Quality, Side

router = APIRouter(route_class=PlainRoute, tags=["operations"])

_INFO = (
    "As text-embeddings-inference has it, then exits, dims, quality by task, tiers, engine and where the model is from"
)


def _status(word: str, meaning: str) -> dict[str, Any]:
    return {"description": meaning, "content": {JSON: {"example": {"status": word}}}}


@router.get("/health", responses={200: _status("alive", "The process answers")})
async def health(request: Request) -> Response:
    """Liveness: whether the process answers. Never waits for the engine; whether it can embed is `/ready`."""
    return json_response({"status": "alive"})


@router.get("/ready", responses={200: _status("ready", "Requests are served"), 503: TEI_ERRORS[503]})
async def ready(request: Request) -> Response:
    """Readiness: loaded, warm, engine alive, not draining. 503 with the reason otherwise."""
    lifecycle: Lifecycle = request.app.state.lifecycle
    state = lifecycle.state
    if state != "ready":
        raise Refusal(UNHEALTHY, f"{state}: {lifecycle.why_not(state)}")
    return json_response({"status": "ready"})


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}, "description": "Prometheus text"}})
async def metrics(request: Request) -> Response:
    """All series in Prometheus' text format."""
    found: Metrics = request.app.state.metrics
    return Response(found.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@router.get("/info", responses={200: {"description": _INFO}, 422: TEI_ERRORS[422], 503: TEI_ERRORS[503]})
async def info(request: Request) -> Response:
    """The model, what it was trained and measured for, what runs it and why, and the limits."""
    refuse_asks(request.scope)
    lifecycle: Lifecycle = request.app.state.lifecycle
    content = described(lifecycle.opened(), request.app.state.settings, request.app.state.tiers)
    return json_response(content | {"state": lifecycle.state})


@router.get("/", include_in_schema=False)
async def root(request: Request) -> Response:
    """Where to go from here; a browser is led to the explorer."""
    settings: Settings = request.app.state.settings
    ports: Ports = request.app.state.ports
    operations = ports.operations in (None, request.scope["server"][1])
    if settings.ui and operations and "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(f"{request.scope.get('root_path', '')}/ui", headers={"Vary": "Accept"})
    places = {"guide": "/guide"}
    if operations:
        places |= {"docs": "/docs", "info": "/info"} | ({"ui": "/ui"} if settings.ui else {})
    if ports.operations is None or not operations:
        places["embed"] = "POST /embed"
    return json_response({"strata": __version__, **places})


def described(served: Served, settings: Settings, tiers: Tiers) -> dict[str, Any]:
    """TEI's `/info` fields, then Strata's own."""
    manifest, choice = served.manifest, served.pool.choice
    auto = manifest.auto_exit
    return {
        "model_id": served.name,
        "model_sha": manifest.revision,
        "model_dtype": choice.dtype if choice else None,
        "served_model_name": served.name,
        "model_type": {"embedding": {"pooling": manifest.pooling}},
        "max_concurrent_requests": settings.max_concurrent_requests,
        "max_input_length": manifest.max_tokens,
        "max_batch_tokens": served.scheduler.batch_tokens,
        "max_batch_requests": settings.max_batch_requests,
        "max_client_batch_size": settings.max_client_batch_size,
        "auto_truncate": settings.auto_truncate,
        "tokenization_workers": served.tokenizer.workers,
        "version": __version__,
        "sha": None,
        "docker_label": None,
        "tiers": [
            {
                "name": tier.name,
                "deadline_ms": None if tier.deadline_s is None else round(tier.deadline_s * 1000, 3),
                "min_quality": tier.min_quality,
                "min_layers": tier.min_layers,
                "exits": tier.exits,
                "input_type": tier.input_type,
                "task": tier.task,
                "without_key": tier == tiers.callers.keyless,
            }
            for tier in tiers.callers.tiers
        ],
        "family": manifest.architecture.family,
        "layers": manifest.architecture.layers,
        "full_dim": manifest.full_dim,
        "exits": served.planner.exits,
        "dims": manifest.dims,
        "trained_exits": manifest.exits,
        "only_full_depth_is_trained": not manifest.elastic,
        "warning": served.warning,
        "prompts": manifest.prompts,
        "query_exits": served.planner.exits_of("query"),
        "task": settings.task,
        "quality": manifest.quality and _quality(manifest.quality, served),
        "agreement": manifest.agreement
        and manifest.agreement.model_dump(mode="json", include={"texts", "count", "exits", "mean", "p01", "bar"}),
        "shared_exits": {str(dim): manifest.sharing_at(dim) for dim in manifest.dims},
        "layers_auto": auto
        and {"offered": auto.refused is None, "why_not": auto.refused, "mean_depth": auto.mean_depth},
        "engine": served.engine and {**served.engine, "candidates": choice.candidates if choice else []},
        "provenance": manifest.provenance.model_dump(),
    }


def _quality(quality: Quality, served: Served) -> dict[str, Any]:
    """What was measured: by task the mean share over its sets and the worst set, and every set as it is."""
    return {
        "share_of": quality.reference,
        "dtype": served.planner.figures.dtype,
        "tasks": {
            task: {
                "both_sides": _shares(quality, task, "alike", served),
                "queries_on_full_depth_documents": _shares(quality, task, "queries", served),
            }
            for task in quality.tasks()
        },
        "sets": {name: each.model_dump(mode="json") for name, each in quality.sets.items()},
    }


def _shares(quality: Quality, task: str, side: Side, served: Served) -> dict[str, Any]:
    """Exit -> dim -> share, the worst set's share, and that set."""
    dtype = served.planner.figures.dtype
    rows: dict[str, Any] = {}
    for layers in served.planner.exits_of("query" if side == "queries" else None) if dtype else ():
        for dim in served.manifest.dims:
            if worth := quality.worth(task, layers, dim, side, dtype):
                told = {"share": round(worth.share, 4), "worst": round(worth.worst, 4), "worst_set": worth.worst_set}
                rows.setdefault(str(layers), {})[str(dim)] = told
    return rows
