"""How far a run has come, and the learning rate there."""

from __future__ import annotations

import math


def progress(step: int, steps: int, seconds: float, minutes: float | None) -> float:
    """Share of the run that is done, 0 to 1: by steps, or by time where that is ahead."""
    by_time = seconds / (60 * minutes) if minutes else 0.0
    return min(1.0, max(step / steps, by_time))


def rate(done: float, warmup: float) -> float:
    """Factor on the learning rate: a linear rise over the first ``warmup`` share, then half a cosine down to 0."""
    if done < warmup:
        return max(done, 1e-3) / warmup
    return 0.5 * (1 + math.cos(math.pi * (done - warmup) / max(1e-9, 1 - warmup)))
