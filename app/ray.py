"""Strata on Ray Serve: the same application and engine, as replicas that Ray scales with the requests in progress.

    serve run strata.app.ray:replicas min_replicas=2 max_replicas=8 cpus=2

Options of the server are STRATA_* variables of the cluster's processes. It is Ray that listens: give keys
(STRATA_TIERS) where others than this machine reach its proxy. Needs the extra: pip install '.[ray]'.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ray
from fastapi import FastAPI
from pydantic import BaseModel, PositiveFloat, PositiveInt
from ray import serve

from strata.app import settings
from strata.app.engine.pool import EnginePool
from strata.app.fitting import check_fits
from strata.app.lifecycle import Lifecycle
from strata.app.main import create_app
from strata.app.telemetry import logs
from strata.model_store.bundle import registry

_DRAIN_SLACK_S = 10.0  # beyond the server's own drain, before Ray ends a replica by force
_QUEUED = 64  # requests that wait in Ray's proxy when no replica takes more; those beyond get 503


class Scale(BaseModel, extra="forbid"):
    """How many replicas, and of what size."""

    min_replicas: PositiveInt = 1
    max_replicas: PositiveInt = 4
    cpus: PositiveInt = 1  # of each replica: as many engine workers, with one thread each
    requests: PositiveFloat = 16  # in progress at a replica, that Ray aims at


def replicas(arguments: dict[str, Any]) -> Any:
    """The Ray Serve application; ``arguments`` are those of `serve run`, or ``args`` in a configuration: a Scale."""
    scale = Scale.model_validate(arguments)
    options = settings.from_arguments({})
    deployment = serve.deployment(
        serve.ingress(build)(Replica),
        name="strata",
        ray_actor_options={"num_cpus": scale.cpus},
        # All that Strata itself takes: what is too much it refuses, by deadlines and tiers, which Ray does not know.
        max_ongoing_requests=options.max_concurrent_requests,
        max_queued_requests=_QUEUED,
        graceful_shutdown_timeout_s=options.drain_seconds + _DRAIN_SLACK_S,
        health_check_period_s=2,
        autoscaling_config={
            "min_replicas": scale.min_replicas,
            "max_replicas": max(scale.min_replicas, scale.max_replicas),
            "target_ongoing_requests": scale.requests,
            "upscale_delay_s": 5,
            "downscale_delay_s": 300,
        },
    )
    return deployment.bind()


class Replica:
    """One server, as Ray sees it."""

    app: FastAPI  # what `build` made

    def check_health(self) -> None:
        """Raise when the engine is dead: Ray then replaces the replica."""
        lifecycle: Lifecycle = self.app.state.lifecycle
        if lifecycle.state == "dead":
            raise RuntimeError(lifecycle.why_not("dead"))


def build() -> FastAPI:
    """The application of one replica, in its own process; its start ends when the model is ready."""
    cores = int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))
    options = settings.from_arguments({})
    if options.workers is None:
        options = options.model_copy(update={"workers": max(1, cores), "threads": options.threads or 1})
    logs.configure(options.log_format, options.log_level, requests=options.log_requests)
    bundle = registry.find(options.model or registry.DEFAULT)
    app = create_app(options, EnginePool(bundle, options.engine))
    check_fits(options, app.state.tiers, bundle)
    load = app.router.lifespan_context
    lifecycle: Lifecycle = app.state.lifecycle
    if not (app.state.tiers.callers.with_keys or options.insecure):
        logs.event("no_keys", {"served": "whoever reaches Ray's proxy"}, level=logging.WARNING)

    @asynccontextmanager
    async def ready(app: FastAPI) -> AsyncIterator[None]:
        async with load(app):
            while lifecycle.state == "loading":
                await asyncio.sleep(0.05)
            if lifecycle.state == "dead":
                raise RuntimeError(lifecycle.why_not("dead"))
            yield
            await lifecycle.drain()

    app.router.lifespan_context = ready
    return app
