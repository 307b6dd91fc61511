"""What a run is summed up to: percentiles, medians over rounds, and figures held against a bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (0-1) of the values lie, interpolated between neighbours."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def median_ratio(values: Sequence[float], references: Sequence[float]) -> float:
    """Median of the rounds' ratios: what disturbs a whole round falls out of it."""
    return median(value / reference for value, reference in zip(values, references, strict=True))


@dataclass(slots=True, frozen=True)
class Figure:
    """One measured number, and where there is one the bar it must reach."""

    name: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached; None without a bar."""
        if self.at_most is not None:
            return self.value <= self.at_most
        if self.at_least is not None:
            return self.value >= self.at_least
        return None

    @property
    def bar(self) -> str:
        """The bar in words."""
        if self.at_most is not None:
            return f"<= {self.at_most:g}"
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return ""
