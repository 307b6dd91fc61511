"""What a batch will take: a model of the engine's time, measured at warm-up and following what batches really take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, inf, log

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_FORGET = 0.995  # weight of the past at every batch: the shape of the cost follows the last few hundred
_QUICK = 0.1  # weight of the newest batch in the ratio that follows a machine that became faster or slower
_SLOW = 0.02  # the same for how far predictions are out
_SPREAD = 0.1  # which is assumed at first
_REFIT = 16  # batches between two fits of the shape
_HOLD = 2.0  # times, how much the measurement at warm-up weighs against a later batch
_SWEEPS = 60  # of the coordinate descent


@dataclass(slots=True)
class Load:
    """What of a batch takes time: its deepest row, its tokens, and its tokens times the layers each is run for."""

    layers: int = 0
    tokens: int = 0
    token_layers: int = 0

    def with_row(self, tokens: int, layers: int) -> Load:
        """The load with one text more."""
        return Load(max(self.layers, layers), self.tokens + tokens, self.token_layers + tokens * layers)

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int]]) -> Load:
        """The load of (tokens, layers) pairs."""
        load = cls()
        for tokens, layers in rows:
            load = load.with_row(tokens, layers)
        return load


@dataclass(slots=True, frozen=True)
class BatchBounds:
    """What a batch may be. A single text is a batch whatever its size."""

    tokens: int
    seconds: float = inf
    texts: int | None = None
    text_tokens: float = 1.0  # of an average text
    gap_s: float = 0.0  # between two batches of a worker

    @property
    def text_limit(self) -> float:
        """Tokens of as many average texts as a batch may have."""
        return inf if self.texts is None else self.texts * self.text_tokens


class CostModel:
    """Seconds of a batch = ratio x (a + b layers + c tokens + d token_layers), every coefficient at least 0.

    Fitted by least squares on relative errors, so that short batches count as much as long ones.
    """

    def __init__(self) -> None:
        self._weights: Floats = np.zeros(4)
        self._gram: Floats = np.zeros((4, 4))
        self._target: Floats = np.zeros(4)
        self._log_ratio = 0.0
        self.spread = _SPREAD  # mean of |log(real / predicted)| of late: how far a prediction is out
        self._since_fit = 0
        self._now = (0.0, 0.0, 0.0, 0.0)  # the weights times the ratio

    @property
    def known(self) -> bool:
        """Whether anything has been measured yet; all predictions are 0 before."""
        return bool(self._weights.any())

    def measured(self, samples: Iterable[tuple[Load, float]]) -> None:
        """Begin with what was measured at warm-up: loads and their seconds."""
        for load, seconds in samples:
            self._add(load, seconds)
        self._weights = _non_negative(self._gram, self._target, np.zeros(4))
        self._gram *= _HOLD
        self._target *= _HOLD
        self._settle()

    def observe(self, load: Load, seconds: float) -> None:
        """A batch of this load took this long, from being handed to a worker to its answer."""
        raw = float(self._weights @ _features(load))
        if raw > 0:
            # The logarithm, so that twice as slow and twice as fast weigh the same; clipped: one stall is not a trend.
            error = min(max(log(seconds / raw), -1.5), 1.5) - self._log_ratio
            self._log_ratio += _QUICK * error
            self.spread += _SLOW * (abs(error) - self.spread)
        self._gram *= _FORGET
        self._target *= _FORGET
        self._add(load, seconds)
        self._since_fit += 1
        if self._since_fit >= _REFIT or raw == 0:
            self._since_fit = 0
            before = raw
            self._weights = _non_negative(self._gram, self._target, self._weights)
            after = float(self._weights @ _features(load))
            if before > 0 and after > 0:  # what the shape has learnt, the ratio need not say again
                self._log_ratio += log(before / after)
        self._settle()

    def seconds(self, load: Load) -> float:
        """Predicted seconds of a batch on one worker."""
        a, b, c, d = self._now
        return a + b * load.layers + c * load.tokens + d * load.token_layers

    def rows(self, tokens: Floats, layers: Floats, bounds: BatchBounds) -> Floats:
        """Predicted worker-seconds of texts that run in batches as full as ``bounds`` let them be, elementwise."""
        a, b, c, d = self._now
        fixed, each = a + b * layers, c + d * layers
        # Of a batch that time cuts short, fewer tokens share what every batch costs; and texts leave half a one's room.
        fit = np.minimum((bounds.seconds - fixed) / (each + 1e-12), bounds.tokens) - bounds.text_tokens / 2
        fit = np.minimum(fit, bounds.text_limit)
        return np.asarray(tokens * (each + (fixed + bounds.gap_s) / np.maximum(fit, bounds.text_tokens)))

    def row(self, tokens: float, layers: float, bounds: BatchBounds) -> float:
        """The same for one; numpy would take five times as long."""
        a, b, c, d = self._now
        fixed, each = a + b * layers, c + d * layers
        fit = min((bounds.seconds - fixed) / (each + 1e-12), bounds.tokens) - bounds.text_tokens / 2
        fit = min(fit, bounds.text_limit)
        return tokens * (each + (fixed + bounds.gap_s) / max(fit, bounds.text_tokens))

    def deepest(self, tokens: Floats, seconds: Floats) -> Floats:
        """Layers (real numbers) that texts run alone reach within ``seconds``, elementwise."""
        a, b, c, d = self._now
        return np.asarray((seconds - a - c * tokens) / (b + d * tokens + 1e-12))

    def _settle(self) -> None:
        a, b, c, d = (exp(self._log_ratio) * self._weights).tolist()
        self._now = (a, b, c, d)

    def _add(self, load: Load, seconds: float) -> None:
        x = _features(load) / seconds
        self._gram += np.outer(x, x)
        self._target += x


def _features(load: Load) -> Floats:
    return np.array((1.0, load.layers, load.tokens, load.token_layers))


def _non_negative(gram: Floats, target: Floats, start: Floats) -> Floats:
    """Least squares with coefficients >= 0, by coordinate descent on the normal equations."""
    scale = np.sqrt(np.maximum(gram.diagonal(), 1e-30))
    g = (gram / np.outer(scale, scale)).tolist()
    t = (target / scale).tolist()
    w = (start * scale).tolist()
    for _ in range(_SWEEPS):
        for i in range(4):
            row = g[i]
            rest = t[i] - sum(row[j] * w[j] for j in range(4) if j != i)
            w[i] = max(0.0, rest / (row[i] + 1e-9))
    return np.asarray(w) / scale
