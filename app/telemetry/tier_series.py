"""What is counted of each tier, and the series made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric, SummaryMetricFamily

from strata.app.telemetry.series import SECONDS, Histogram

# Left before the deadline, or over it.
_SLACK = (-10.0, -1.0, -0.25, -0.05, 0.0, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class TierCounts:
    """What is counted of one tier."""

    __slots__ = ("answered", "expired", "failed", "layers", "quality", "quality_count", "refused", "slack", "waited")

    def __init__(self, exits: Sequence[float]) -> None:
        self.answered: Counter[str] = Counter()  # by "true" or "false": in time
        self.refused: Counter[str] = Counter()  # by reason
        self.expired = self.failed = 0
        self.waited = Histogram(SECONDS)
        self.slack = Histogram(_SLACK)
        self.layers = Histogram(exits)
        self.quality: dict[str, float] = {}  # shares summed, by the task they are of
        self.quality_count: Counter[str] = Counter()


def tier_series(tiers: Mapping[str, TierCounts]) -> Iterator[Metric]:
    """What was counted of every tier."""
    answered = CounterMetricFamily("strata_tier_answered", "Requests answered", labels=["tier", "in_time"])
    refused = CounterMetricFamily("strata_tier_refused", "Requests refused on arrival", labels=["tier", "reason"])
    expired = CounterMetricFamily("strata_tier_expired", "Requests given up while they waited", labels=["tier"])
    failed = CounterMetricFamily("strata_tier_failed", "Requests that the engine failed on", labels=["tier"])
    waited = HistogramMetricFamily(
        "strata_tier_queue_seconds", "Seconds from admission until the engine began", labels=["tier"]
    )
    slack = HistogramMetricFamily("strata_tier_slack_seconds", "Seconds left of the deadline", labels=["tier"])
    layers = HistogramMetricFamily("strata_tier_layers", "Layers run, per request", labels=["tier"])
    quality = SummaryMetricFamily(
        "strata_tier_quality",
        "Share of the source model's score, on the task that counted",
        labels=["tier", "task"],
    )
    for name, tier in tiers.items():
        for in_time in ("true", "false"):
            answered.add_metric([name, in_time], tier.answered[in_time])
        for reason, count in tier.refused.items():
            refused.add_metric([name, reason], count)
        expired.add_metric([name], tier.expired)
        failed.add_metric([name], tier.failed)
        waited.add_metric([name], tier.waited.buckets(), tier.waited.total)
        slack.add_metric([name], tier.slack.buckets(), tier.slack.total)
        layers.add_metric([name], tier.layers.buckets(), tier.layers.total)
        for task, count in tier.quality_count.items():
            quality.add_metric([name, task], count, tier.quality[task])
    yield from (answered, refused, expired, failed, waited, slack, layers, quality)


def key_series(keys: Mapping[tuple[str, str], Sequence[int]]) -> Iterator[Metric]:
    """Requests, texts and tokens answered, by (tier, key)."""
    for place, (unit, text) in enumerate((("requests", "Requests"), ("texts", "Texts"), ("tokens", "Tokens"))):
        series = CounterMetricFamily(
            f"strata_key_{unit}", f"{text} answered, by the beginning of the key's SHA-256", labels=["tier", "key"]
        )
        for (tier, key), use in keys.items():
            series.add_metric([tier, key], use[place])
        yield series
