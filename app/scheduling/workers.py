"""What the schedule asks of the engine: `EnginePool` is one that answers, a simulated one another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from strata.app.engine.batch import Batch
from strata.app.engine.link import Done


class OnDevice(Protocol):
    """What runs."""

    @property
    def device(self) -> str:
        """ "cpu", "cuda" or "cuda:N"."""


class Workers(Protocol):
    """Engine workers, each with one batch at most."""

    on_idle: Callable[[], None]  # called whenever a worker becomes free

    @property
    def size(self) -> int:
        """Workers alive."""

    @property
    def idle(self) -> int:
        """Workers without a batch."""

    @property
    def status(self) -> str:
        """ "loading", "ready" or "dead"."""

    @property
    def choice(self) -> OnDevice | None:
        """None until one is chosen."""

    def look(self) -> None:
        """Take the answers that have come meanwhile."""

    def start_batch(self, batch: Batch, patience_s: float, done: Done) -> None:
        """Run a batch on an idle worker (there must be one); ``done`` is called when it has ended."""
