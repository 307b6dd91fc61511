"""What `/metrics` said at a moment, and what happened between two of them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import inf, isnan, nan

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Sample:
    """All series of one scrape. ``at``: seconds, of any clock."""

    at: float
    values: Mapping[str, Mapping[Labels, float]] = field(default_factory=dict)

    @classmethod
    def parse(cls, at: float, text: str) -> Sample:
        """Of Prometheus text. Raises ValueError where it is none."""
        values: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                # The parser gives every counter a `_total`, which TEI's have not.
                name = sample.name.removesuffix("_total") if sample.name.startswith("te_") else sample.name
                values.setdefault(name, {})[frozenset(sample.labels.items())] = sample.value
        return cls(at, values)

    def value(self, name: str, **labels: str) -> float:
        """The sum of the series of this name that have these labels; 0 where there is none."""
        return sum(value for found, value in self.values.get(name, {}).items() if labels.items() <= dict(found).items())

    def of(self, name: str, label: str) -> list[str]:
        """The values of a label that the series of this name have, sorted."""
        return sorted({dict(found)[label] for found in self.values.get(name, {}) if label in dict(found)})


@dataclass(frozen=True)
class Window:
    """From one scrape to a later one. A server that was started anew between them counts from its start."""

    first: Sample
    last: Sample

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.last.at - self.first.at

    def grew(self, name: str, **labels: str) -> float:
        """By how much a counter grew."""
        before, after = self.first.value(name, **labels), self.last.value(name, **labels)
        return after - before if after >= before else after

    def rate(self, name: str, **labels: str) -> float:
        """Likewise, a second."""
        return self.grew(name, **labels) / self.seconds if self.seconds > 0 else nan

    def mean(self, name: str, **labels: str) -> float:
        """Mean of what a histogram, or a summary, saw; NaN where it saw nothing."""
        count = self.grew(f"{name}_count", **labels)
        return self.grew(f"{name}_sum", **labels) / count if count else nan

    def buckets(self, name: str, **labels: str) -> list[tuple[float, float]]:
        """Upper bounds of a histogram, ascending, and how many were seen in each bucket."""
        bounds = sorted(float(bound) for bound in self.last.of(f"{name}_bucket", "le"))
        return list(_apart((bound, self.grew(f"{name}_bucket", le=_le(bound), **labels)) for bound in bounds))

    def quantile(self, share: float, name: str, **labels: str) -> float:
        """As PromQL's histogram_quantile: between the bounds of a bucket as if what it holds lay evenly."""
        buckets = self.buckets(name, **labels)
        total = sum(count for _, count in buckets)
        if not total:
            return nan
        sums = [sum(count for _, count in buckets[: i + 1]) for i in range(len(buckets))]
        at = bisect_left(sums, share * total)
        upper, count = buckets[at]
        lower = buckets[at - 1][0] if at else min(0.0, upper)
        if upper == inf:
            return lower
        return lower + (upper - lower) * (share * total - (sums[at] - count)) / count


def number(value: float) -> float | None:
    """``value``, or None for JSON where nothing was seen."""
    return None if isnan(value) else round(value, 6)


def _apart(running: Iterator[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    below = 0.0
    for bound, count in running:
        yield bound, count - below
        below = count


def _le(bound: float) -> str:
    return "+Inf" if bound == inf else str(bound)
