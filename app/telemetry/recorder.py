"""How the server is doing now: one sample a second, taken only while somebody looks."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from statistics import median
from time import time
from typing import Any

from strata.app.telemetry.metrics import Answered, Metrics, Standing

EVERY_S = 1.0
KEPT = 600  # samples
_UNSEEN_S = 30.0  # after which nothing is recorded any more


class Recorder:
    """Records from the first look to half a minute after the last one; unseen, it costs an answer one comparison."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._samples: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._answers: list[Answered] = []
        self._before = Standing()
        self._sampled_at = self._looked_at = 0.0
        self._next: asyncio.TimerHandle | None = None
        self._first: asyncio.Future[None] | None = None

    async def look(self, seconds: int) -> list[dict[str, Any]]:
        """The last samples, as many as seconds, the newest last. The first look waits for the first sample."""
        loop = asyncio.get_running_loop()
        self._looked_at = loop.time()
        if self._next is None:
            self._begin(loop)
        if self._first is not None:
            await asyncio.shield(self._first)
        return list(self._samples)[-seconds:]

    def stop(self) -> None:
        """Record no more."""
        if self._next:
            self._next.cancel()
            self._next = None
        if self._first and not self._first.done():
            self._first.set_result(None)
        self._first = None
        self._metrics.observer = None
        self._samples.clear()

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._first = loop.create_future()
        self._before = self._metrics.standing()
        self._sampled_at = loop.time()
        self._answers = []
        self._metrics.observer = self._answers.append
        self._next = loop.call_later(EVERY_S, self._sample, loop)

    def _sample(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        if now - self._looked_at > _UNSEEN_S:
            self.stop()
            return
        standing, answers = self._metrics.standing(), self._answers
        self._answers = []
        self._metrics.observer = self._answers.append
        self._samples.append(sample(answers, self._before, standing, now - self._sampled_at))
        self._before, self._sampled_at = standing, now
        if self._first is not None:
            self._first.set_result(None)
            self._first = None
        self._next = loop.call_later(EVERY_S, self._sample, loop)


def sample(answers: Sequence[Answered], before: Standing, now: Standing, seconds: float) -> dict[str, Any]:
    """What the answers of ``seconds`` come to, and how things stand at their end.

    Rates are a second's. Times are milliseconds; None where nothing was answered, or nothing had a deadline.
    """
    times = sorted(answer.real_s for answer in answers)
    deadlines = [answer.real_s + answer.slack_s for answer in answers if answer.slack_s is not None]
    tiers: dict[str, dict[str, int]] = {}
    for answer in answers:
        tier = tiers.setdefault(answer.tier, dict.fromkeys(_COUNTS, 0))
        tier["answered"] += 1
        tier["in_time"] += answer.slack_s is None or answer.slack_s >= 0
    for outcome in ("refused", "expired", "failed"):
        for name, count in (getattr(now, outcome) - getattr(before, outcome)).items():
            tiers.setdefault(name, dict.fromkeys(_COUNTS, 0))[outcome] += count
    return {
        "at": round(time(), 3),
        "seconds": round(seconds, 3),
        "requests_per_s": round(len(answers) / seconds, 2),
        **{outcome: sum(tier[outcome] for tier in tiers.values()) for outcome in ("refused", "expired", "failed")},
        "layers": {str(layers): count for layers, count in sorted(Counter(a.layers for a in answers).items())},
        "level": now.level,
        "p50_ms": _ms(_quantile(times, 0.5)),
        "p99_ms": _ms(_quantile(times, 0.99)),
        "predicted_p50_ms": _ms(median(answer.predicted_s for answer in answers) if answers else None),
        "deadline_ms": _ms(median(deadlines) if deadlines else None),
        "tiers": tiers,
        "queue_texts": now.queue_texts,
        "queue_tokens": now.queue_tokens,
        "queue_oldest_ms": _ms(now.queue_oldest_s),
        "workers": {"wanted": now.workers[0], "alive": now.workers[1], "idle": now.workers[2]},
        "busy": round(max(0.0, now.busy_s - before.busy_s) / (seconds * max(1, now.workers[1])), 3),
    }


_COUNTS = ("answered", "in_time", "refused", "expired", "failed")


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The value that ``share`` of them do not exceed."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
