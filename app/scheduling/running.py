"""A batch under way."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from strata.app.engine.batch import Batch
from strata.app.planning.cost import Load
from strata.app.scheduling.ticket import Admitted, Ticket


@dataclass(slots=True, eq=False)
class Running:
    """What a worker has in hand. Times in the scheduler's clock."""

    tickets: list[Ticket]
    parts: Sequence[tuple[Admitted, int]]  # whose they are: so many of each request, one after another
    batch: Batch
    load: Load
    predicted_s: float
    sent: float
    alone: bool = False  # no other worker had a batch when it was sent
    overdue: asyncio.TimerHandle | None = None  # goes off when it should long have been answered

    @property
    def until(self) -> float:
        """When it is predicted to be answered."""
        return self.sent + self.predicted_s

    def end(self) -> None:
        """It is answered, or lost."""
        if self.overdue:
            self.overdue.cancel()
