"""What the operator says of the engine; light, so that the options of the server can be read before anything else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class EngineOptions:
    """What the operator fixed; "auto" and None are decided by the pool."""

    backend: str = "auto"
    dtype: str = "auto"
    device: str = "auto"
    workers: int | None = None
    threads: int | None = None
