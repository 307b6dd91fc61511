"""What series are made of: counts in buckets, kept as plain integers, and the families Prometheus is told."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from math import inf

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.samples import Sample

# From half a millisecond (a shallow exit on a fast machine) to the longest wait anybody sits through.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Histogram:
    """Counts per bucket; ``bounds`` are the upper bounds, +Inf apart."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.total += value * times

    def buckets(self) -> list[tuple[str, float]]:
        running, found = 0, []
        for bound, count in zip((*self.bounds, inf), self.counts, strict=True):
            running += count
            found.append(("+Inf" if bound == inf else str(float(bound)), float(running)))
        return found


def counts_family(name: str, text: str, counts: Mapping[str, int], label: str | None = None) -> Metric:
    """A counter under exactly this name: by itself prometheus_client's family would append `_total` to its samples."""
    family = CounterMetricFamily(name, text, labels=[label] if label else None)
    family.samples = [Sample(name, {label: value} if label else {}, count) for value, count in counts.items()]
    return family


def histogram_family(name: str, text: str, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(name, text)
    family.add_metric([], histogram.buckets(), histogram.total)
    return family
