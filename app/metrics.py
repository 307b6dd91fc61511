"""Every Prometheus series, declared once.

The hot path only adds to plain integers (an observation costs under a microsecond; prometheus_client's own take
several, with a lock each). Series are built when somebody scrapes.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import inf

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

# From half a millisecond (a shallow exit on a fast machine) to the longest wait anybody sits through.
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)


class _Histogram:
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


class Metrics(Collector):
    """The numbers of one server; the rooms report in their own words, `/metrics` reads them as Prometheus text."""

    def __init__(self) -> None:
        self._requests: Counter[str] = Counter()
        self._successes: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._texts = self._texts_answered = 0
        self._disconnects = 0
        self._request_seconds = _Histogram(_SECONDS)
        self._tokenization_seconds = _Histogram(_SECONDS)
        self._queue_seconds = _Histogram(_SECONDS)
        self._inference_seconds = _Histogram(_SECONDS)
        self._wait_seconds = _Histogram(_SECONDS)
        self._batch_texts = _Histogram(_TEXTS)
        self._batch_tokens = _Histogram(_TOKENS)
        self._batch_seconds: dict[int, _Histogram] = {}
        self._tokens = self._padded_tokens = 0
        self._exits = _Histogram(())
        self._dims = _Histogram(())
        self._worker_restarts = 0
        self._queue_size: Callable[[], int] = lambda: 0
        self._queue_tokens: Callable[[], int] = lambda: 0
        self._ready: Callable[[], bool] = lambda: False
        self._resident: Callable[[], Mapping[str, int]] = dict
        self._facts: dict[str, str] = {}
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
        self, method: str, texts: int, dim: int, *, total: float, tokenization: float, queue: float, inference: float
    ) -> None:
        """The request was answered; where its time went, in seconds."""
        self._successes[method] += 1
        self._texts_answered += texts
        self._dims.observe(dim, texts)
        self._request_seconds.observe(total)
        self._tokenization_seconds.observe(tokenization)
        self._queue_seconds.observe(queue)
        self._inference_seconds.observe(inference)

    def request_failed(self, reason: str) -> None:
        """The request was refused or failed, for a reason in TEI's words ("validation", "overloaded", ...)."""
        self._failures[reason] += 1

    def client_left(self) -> None:
        """The client closed its connection before the answer."""
        self._disconnects += 1

    # What the scheduler and the engine report.

    def request_queued(self, seconds: float) -> None:
        """A request waited this long before its last text was sent to the engine."""
        self._wait_seconds.observe(seconds)

    def batch_done(self, texts: int, tokens: int, padded_tokens: int, seconds: float, exits: Iterable[int]) -> None:
        """The engine ran a batch; ``exits`` are the layers run, one per text."""
        self._batch_texts.observe(texts)
        self._batch_tokens.observe(tokens)
        self._tokens += tokens
        self._padded_tokens += padded_tokens
        deepest = 0
        for layers in exits:
            self._exits.observe(layers)
            deepest = max(deepest, layers)
        if deepest not in self._batch_seconds:
            self._batch_seconds[deepest] = _Histogram(_SECONDS)
        self._batch_seconds[deepest].observe(seconds)

    def worker_restarted(self) -> None:
        """An engine process died and was replaced."""
        self._worker_restarts += 1

    # What is known once the model is open.

    def model_opened(self, *, exits: Sequence[int], dims: Sequence[int], **facts: str) -> None:
        """The exits and dims that may be asked for, and what build information should say."""
        self._exits = _Histogram(exits)
        self._dims = _Histogram(dims)
        self._facts.update(facts)

    def watch(
        self,
        *,
        queue_size: Callable[[], int],
        queue_tokens: Callable[[], int],
        ready: Callable[[], bool],
        resident: Callable[[], Mapping[str, int]],
    ) -> None:
        """Where to read what is only looked at when somebody scrapes."""
        self._queue_size, self._queue_tokens, self._ready, self._resident = queue_size, queue_tokens, ready, resident

    def text(self) -> bytes:
        """All series in Prometheus' text format."""
        # TEI's counters have no `_total`; prometheus_client writes it into their comments all the same.
        return re.sub(rb"(?m)^(# (?:HELP|TYPE) te_\w+)_total ", rb"\1 ", generate_latest(self.registry))

    def collect(self) -> Iterator[Metric]:
        """TEI's series, named exactly as there (its counters have no `_total`), then Strata's own."""
        yield _counts("te_request_count", "Requests", self._requests, "method")
        yield _counts("te_request_success", "Requests answered", self._successes, "method")
        yield _counts("te_request_failure", "Requests refused or failed", self._failures, "err")
        yield _counts("te_embed_count", "Texts to embed", {"": self._texts})
        yield _counts("te_embed_success", "Texts embedded", {"": self._texts_answered})
        yield _histogram("te_request_duration", "Seconds from arrival to answer", self._request_seconds)
        yield _histogram("te_request_tokenization_duration", "Seconds tokenizing", self._tokenization_seconds)
        yield _histogram("te_request_queue_duration", "Seconds in the queue", self._queue_seconds)
        yield _histogram("te_request_inference_duration", "Seconds with the engine", self._inference_seconds)
        yield _histogram("te_batch_next_size", "Texts of a batch", self._batch_texts)
        yield _histogram("te_batch_next_tokens", "Tokens of a batch", self._batch_tokens)
        yield GaugeMetricFamily("te_queue_size", "Texts waiting", value=self._queue_size())

        yield _histogram("strata_exit_layers", "Layers run, per text", self._exits)
        yield _histogram("strata_dim", "Length of the vectors answered, per text", self._dims)
        yield _histogram("strata_queue_seconds", "Seconds a request waited for the engine", self._wait_seconds)
        yield _histogram("strata_batch_texts", "Texts of a batch", self._batch_texts)
        yield _histogram("strata_batch_tokens", "Tokens of a batch", self._batch_tokens)
        seconds = HistogramMetricFamily(
            "strata_inference_seconds", "Seconds of a batch in the engine, by its deepest exit", labels=["layers"]
        )
        for layers, histogram in sorted(self._batch_seconds.items()):
            seconds.add_metric([str(layers)], histogram.buckets(), histogram.total)
        yield seconds
        yield CounterMetricFamily("strata_tokens", "Tokens run", value=self._tokens)
        yield CounterMetricFamily(
            "strata_padded_tokens", "Token places run that held no token", value=self._padded_tokens
        )
        yield CounterMetricFamily("strata_worker_restarts", "Engine processes replaced", value=self._worker_restarts)
        yield CounterMetricFamily(
            "strata_client_disconnects", "Clients that left before their answer", value=self._disconnects
        )
        yield GaugeMetricFamily("strata_queue_tokens", "Tokens waiting", value=self._queue_tokens())
        yield GaugeMetricFamily("strata_ready", "1 when requests are accepted", value=float(self._ready()))
        resident = GaugeMetricFamily(
            "strata_process_resident_bytes", "Resident memory of each process", labels=["process"]
        )
        for process, size in self._resident().items():
            resident.add_metric([process], size)
        yield resident
        yield InfoMetricFamily("strata_build", "What is served, and by what", value=self._facts)


def _counts(name: str, text: str, counts: Mapping[str, int], label: str | None = None) -> Metric:
    """A counter under exactly this name: prometheus_client's own family would append `_total`."""
    family = Metric(name, text, "counter")
    family.samples = [Sample(name, {label: value} if label else {}, count) for value, count in counts.items()]
    return family


def _histogram(name: str, text: str, histogram: _Histogram) -> Metric:
    family = HistogramMetricFamily(name, text)
    family.add_metric([], histogram.buckets(), histogram.total)
    return family
