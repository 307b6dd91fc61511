"""Every Prometheus series, declared once.

The hot path only adds to plain integers (an observation costs under a microsecond; prometheus_client's own take
several, with a lock each). Series are built when somebody scrapes.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from strata.app.telemetry.series import SECONDS, Histogram, counts_family, histogram_family
from strata.app.telemetry.tier_series import TierCounts, key_series, tier_series

_ERROR = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.35, 0.5, 0.75, 1.0, 2.0, 5.0)
_LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_DECISION = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025)
_COSINE = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99, 0.995, 1.0)
_WORKERS = {
    "wanted": "Engine workers there should be",
    "alive": "Engine workers there are",
    "idle": "Engine workers without a batch",
}
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_MOST_KEYS = 100
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)


@dataclass(slots=True, frozen=True)
class Answered:
    """One request that was answered. Seconds from arrival; ``slack_s``: left of its time, None without a deadline."""

    tier: str
    layers: int
    slack_s: float | None
    predicted_s: float
    real_s: float


@dataclass(slots=True, frozen=True)
class Standing:
    """How things stand: requests so far that got no answer, by tier, and what waits and runs."""

    refused: Counter[str] = field(default_factory=Counter)
    expired: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    queue_texts: int = 0
    queue_tokens: int = 0
    queue_oldest_s: float = 0.0
    level: int = 0
    workers: tuple[int, int, int] = (0, 0, 0)  # wanted, alive, idle
    busy_s: float = 0.0  # of all workers so far


@dataclass(slots=True, frozen=True)
class Gauges:
    """Where to read what is only looked at when somebody scrapes; nothing yet."""

    in_progress: Callable[[], int] = lambda: 0
    tasks: Callable[[], int] = lambda: 0
    queue_texts: Callable[[], int] = lambda: 0
    queue_tokens: Callable[[], int] = lambda: 0
    queue_oldest_s: Callable[[], float] = lambda: 0.0
    tokenizing: Callable[[], int] = lambda: 0
    workers: Callable[[], tuple[int, int, int]] = lambda: (0, 0, 0)  # wanted, alive, idle
    busy_s: Callable[[], Mapping[int, float]] = dict  # by worker's place
    depth: Callable[[], int] = lambda: 0
    ready: Callable[[], bool] = lambda: False
    log_dropped: Callable[[], int] = lambda: 0
    resident_bytes: Callable[[], Mapping[str, int]] = dict  # by process


class Metrics(Collector):
    """The numbers of one server; the rooms report in their own words, `/metrics` reads them as Prometheus text."""

    def __init__(self) -> None:
        self._requests: Counter[str] = Counter()
        self._successes: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._texts = self._texts_answered = 0
        self._disconnects = 0
        self._keys: dict[tuple[str, str], list[int]] = {}  # (tier, key) -> requests, texts, tokens
        self._request_seconds = Histogram(SECONDS)
        self._tokenization_seconds = Histogram(SECONDS)
        self._queue_seconds = Histogram(SECONDS)
        self._inference_seconds = Histogram(SECONDS)
        self._batch_texts = Histogram(_TEXTS)
        self._batch_tokens = Histogram(_TOKENS)
        self._batch_seconds: dict[int, Histogram] = {}
        self._tokens = self._padded_tokens = 0
        self._exits = Histogram(())
        self._dims = Histogram(())
        self._input_texts: Counter[str] = Counter()
        self._input_layers: Counter[str] = Counter()  # summed over texts
        self._worker_restarts = 0
        self._tiers: dict[str, TierCounts] = {}
        self._cost_error = Histogram(_ERROR)
        self._forecast_error = Histogram(_ERROR)
        self._decision_seconds = Histogram(_DECISION)
        self._loop_lag = Histogram(_LAG)
        self._agreement: dict[int, Histogram] = {}
        self.gauges = Gauges()
        self._facts: dict[str, str] = {}
        self.observer: Callable[[Answered], object] | None = None  # told of each answer while somebody looks
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    # What the API reports.

    def request_started(self, method: str, texts: int) -> None:
        """A well-formed request with ``texts`` texts came in; method is "single" or "batch"."""
        self._requests[method] += 1
        self._texts += texts

    def request_answered(
        self,
        method: str,
        texts: int,
        dim: int,
        *,
        layers: int,
        input_type: str | None,
        total: float,
        tokenization: float,
        queue: float,
        inference: float,
    ) -> None:
        """The request was answered; where its time went, in seconds.

        ``layers``: run, of all its texts together. ``input_type``: "query", "document" or unsaid.
        """
        self._successes[method] += 1
        self._texts_answered += texts
        self._dims.observe(dim, texts)
        kind = input_type or "unsaid"
        self._input_texts[kind] += texts
        self._input_layers[kind] += layers
        self._request_seconds.observe(total)
        self._tokenization_seconds.observe(tokenization)
        self._queue_seconds.observe(queue)
        self._inference_seconds.observe(inference)

    def key_answered(self, tier: str, key: str, texts: int, tokens: int) -> None:
        """A request with a key was answered; ``tier`` is the key's own. Keys beyond a hundred count together."""
        use = self._keys.get((tier, key))
        if use is None:
            known = key if len(self._keys) < _MOST_KEYS else "others"
            use = self._keys.setdefault((tier, known), [0, 0, 0])
        use[0] += 1
        use[1] += texts
        use[2] += tokens

    def request_failed(self, reason: str) -> None:
        """The request was refused or failed, for a reason in TEI's words ("validation", "overloaded", ...)."""
        self._failures[reason] += 1

    def client_left(self) -> None:
        """The client closed its connection before the answer."""
        self._disconnects += 1

    # What the scheduler and the engine report.

    def batch_done(self, texts: int, tokens: int, padded_tokens: int, seconds: float, exits: Iterable[int]) -> None:
        """The engine ran a batch; ``exits`` are the layers run, one per text."""
        self._batch_texts.observe(texts)
        self._batch_tokens.observe(tokens)
        self._tokens += tokens
        self._padded_tokens += padded_tokens
        deepest = 0
        for layers, count in Counter(exits).items():
            self._exits.observe(layers, count)
            deepest = max(deepest, layers)
        if deepest not in self._batch_seconds:
            self._batch_seconds[deepest] = Histogram(SECONDS)
        self._batch_seconds[deepest].observe(seconds)

    def batch_predicted(self, predicted: float, real: float) -> None:
        """What the cost model said of a batch, and what it took, in seconds."""
        self._cost_error.observe(abs(predicted - real) / max(real, 1e-6))

    def decided(self, seconds: float) -> None:
        """Choosing a batch and its depths took this long."""
        self._decision_seconds.observe(seconds)

    def loop_lagged(self, seconds: float) -> None:
        """The event loop came so much later than asked to what it was to do."""
        self._loop_lag.observe(seconds)

    def tier_answered(
        self,
        tier: str,
        *,
        layers: int,
        quality: tuple[str, float] | None,
        waited_s: float,
        slack_s: float | None,
        predicted_s: float,
        real_s: float,
    ) -> None:
        """A request was answered: how long until the engine had the first of it, and what had been foreseen.

        ``slack_s``: what was left of its time; None: it had no deadline. ``quality``: the task that counted, and the
        share.
        """
        counts = self._tier(tier)
        counts.waited.observe(waited_s)
        counts.answered["true" if slack_s is None or slack_s >= 0 else "false"] += 1
        counts.layers.observe(layers)
        if quality is not None:
            task, share = quality
            counts.quality[task] = counts.quality.get(task, 0.0) + share
            counts.quality_count[task] += 1
        if slack_s is not None:
            counts.slack.observe(slack_s)
        self._forecast_error.observe(abs(predicted_s - real_s) / max(real_s, 1e-6))
        if self.observer is not None:
            self.observer(Answered(tier, layers, slack_s, predicted_s, real_s))

    def tier_refused(self, tier: str, reason: str) -> None:
        """A request of a tier was refused."""
        self._tier(tier).refused[reason] += 1

    def tier_expired(self, tier: str) -> None:
        """A request's deadline passed, or could not be met any more, while it waited."""
        self._tier(tier).expired += 1

    def tier_failed(self, tier: str) -> None:
        """The engine failed on a request, for good."""
        self._tier(tier).failed += 1

    def shadowed(self, layers: int, cosine: float) -> None:
        """A text answered at ``layers`` was also run to full depth; the cosine of the two vectors."""
        if layers not in self._agreement:
            self._agreement[layers] = Histogram(_COSINE)
        self._agreement[layers].observe(cosine)

    def _tier(self, name: str) -> TierCounts:
        if name not in self._tiers:
            self._tiers[name] = TierCounts(self._exits.bounds)
        return self._tiers[name]

    def worker_restarted(self) -> None:
        """An engine process died and was replaced."""
        self._worker_restarts += 1

    # What is known once the model is open.

    def model_opened(self, *, exits: Sequence[int], dims: Sequence[int], **facts: str) -> None:
        """The exits and dims that may be asked for, and what build information should say."""
        self._exits = Histogram(exits)
        self._dims = Histogram(dims)
        self._facts.update(facts)

    def standing(self) -> Standing:
        """How things stand now."""
        return Standing(
            Counter({name: tier.refused.total() for name, tier in self._tiers.items()}),
            Counter({name: tier.expired for name, tier in self._tiers.items()}),
            Counter({name: tier.failed for name, tier in self._tiers.items()}),
            self.gauges.queue_texts(),
            self.gauges.queue_tokens(),
            self.gauges.queue_oldest_s(),
            self.gauges.depth(),
            self.gauges.workers(),
            sum(self.gauges.busy_s().values()),
        )

    def text(self) -> bytes:
        """All series in Prometheus' text format."""
        # TEI's counters have no `_total`; prometheus_client writes it into their comments all the same.
        return re.sub(rb"(?m)^(# (?:HELP|TYPE) te_\w+)_total ", rb"\1 ", generate_latest(self.registry))

    def collect(self) -> Iterator[Metric]:
        """TEI's series, named exactly as there (its counters have no `_total`), then Strata's own."""
        yield counts_family("te_request_count", "Requests", self._requests, "method")
        yield counts_family("te_request_success", "Requests answered", self._successes, "method")
        yield counts_family("te_request_failure", "Requests refused or failed", self._failures, "err")
        yield counts_family("te_embed_count", "Texts to embed", {"": self._texts})
        yield counts_family("te_embed_success", "Texts embedded", {"": self._texts_answered})
        yield histogram_family("te_request_duration", "Seconds from arrival to answer", self._request_seconds)
        yield histogram_family("te_request_tokenization_duration", "Seconds tokenizing", self._tokenization_seconds)
        yield histogram_family("te_request_queue_duration", "Seconds in the queue", self._queue_seconds)
        yield histogram_family("te_request_inference_duration", "Seconds with the engine", self._inference_seconds)
        yield histogram_family("te_batch_next_size", "Texts of a batch", self._batch_texts)
        yield histogram_family("te_batch_next_tokens", "Tokens of a batch", self._batch_tokens)
        yield GaugeMetricFamily("te_queue_size", "Texts waiting", value=self.gauges.queue_texts())

        yield histogram_family("strata_exit_layers", "Layers run, per text", self._exits)
        yield histogram_family("strata_dim", "Length of the vectors answered, per text", self._dims)
        inputs = SummaryMetricFamily(
            "strata_input_type_layers",
            "Layers run, per text, by what it is: query, document or unsaid",
            labels=["input_type"],
        )
        for kind, texts in self._input_texts.items():
            inputs.add_metric([kind], texts, self._input_layers[kind])
        yield inputs
        yield histogram_family("strata_batch_texts", "Texts of a batch", self._batch_texts)
        yield histogram_family("strata_batch_tokens", "Tokens of a batch", self._batch_tokens)
        seconds = HistogramMetricFamily(
            "strata_inference_seconds", "Seconds of a batch in the engine, by its deepest exit", labels=["layers"]
        )
        for layers, histogram in sorted(self._batch_seconds.items()):
            seconds.add_metric([str(layers)], histogram.buckets(), histogram.total)
        yield seconds
        yield from tier_series(self._tiers)
        yield from key_series(self._keys)
        yield histogram_family(
            "strata_cost_error_ratio",
            "Error of a batch's predicted time, over the real time",
            self._cost_error,
        )
        yield histogram_family(
            "strata_forecast_error_ratio",
            "Error of a request's predicted time, over the real time",
            self._forecast_error,
        )
        yield histogram_family(
            "strata_decision_seconds", "Seconds to choose a batch and its depths", self._decision_seconds
        )
        yield GaugeMetricFamily("strata_level", "Layers that the scheduler now aims at", value=self.gauges.depth())
        agreement = HistogramMetricFamily(
            "strata_shadow_agreement", "Cosine of a shallow answer to full depth, sampled", labels=["layers"]
        )
        for layers, histogram in sorted(self._agreement.items()):
            agreement.add_metric([str(layers)], histogram.buckets(), histogram.total)
        yield agreement
        yield CounterMetricFamily("strata_tokens", "Tokens run", value=self._tokens)
        yield CounterMetricFamily(
            "strata_padded_tokens", "Token places run that held no token", value=self._padded_tokens
        )
        yield CounterMetricFamily("strata_worker_restarts", "Engine processes replaced", value=self._worker_restarts)
        yield CounterMetricFamily(
            "strata_client_disconnects", "Clients that left before their answer", value=self._disconnects
        )
        for state, count in zip(("wanted", "alive", "idle"), self.gauges.workers(), strict=True):
            yield GaugeMetricFamily(f"strata_workers_{state}", _WORKERS[state], value=count)
        busy = CounterMetricFamily(
            "strata_worker_busy_seconds", "Seconds that each engine worker had a batch", labels=["worker"]
        )
        for place, seconds_busy in sorted(self.gauges.busy_s().items()):
            busy.add_metric([str(place)], seconds_busy)
        yield busy
        yield histogram_family(
            "strata_event_loop_lag_seconds",
            "Seconds that the event loop was late, sampled ten times a second",
            self._loop_lag,
        )
        yield CounterMetricFamily(
            "strata_log_lines_dropped", "Lines of the log that nobody read in time", value=self.gauges.log_dropped()
        )
        yield GaugeMetricFamily("strata_requests_in_progress", "Requests in flight", value=self.gauges.in_progress())
        yield GaugeMetricFamily("strata_tasks", "Tasks of the event loop", value=self.gauges.tasks())
        yield GaugeMetricFamily("strata_queue_tokens", "Tokens waiting", value=self.gauges.queue_tokens())
        yield GaugeMetricFamily(
            "strata_queue_oldest_seconds",
            "Age of the oldest request that waits, 0 if none does",
            value=self.gauges.queue_oldest_s(),
        )
        yield GaugeMetricFamily(
            "strata_tokenizer_backlog",
            "Requests handed to the tokenizer's threads and not done",
            value=self.gauges.tokenizing(),
        )
        yield GaugeMetricFamily("strata_ready", "1 when requests are accepted", value=float(self.gauges.ready()))
        resident = GaugeMetricFamily(
            "strata_process_resident_bytes",
            "Resident memory of each process; what they share counts in each",
            labels=["process"],
        )
        for process, size in self.gauges.resident_bytes().items():
            resident.add_metric([process], size)
        yield resident
        yield InfoMetricFamily("strata_build", "What is served, and by what", value=self._facts)
