"""What a batch will take: a model of the engine's time, measured at warm-up and following what batches really take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, inf, log
from statistics import median

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_FORGET = 0.995  # what a batch weighs after one more: the weights of the cost follow the last few hundred
_QUICK = 0.1  # what the newest batch weighs in the ratio, which follows a machine that becomes faster or slower
_SLOW = 0.02  # what it weighs in the spread, which is how far predictions are out
_SPREAD = 0.1  # the spread that is assumed at first
_HOLD = 2.0  # how many later batches a measurement at warm-up weighs
_GAIN = 1e-7  # of the largest gain, under which another coefficient is not worth having
_PARTS = 7  # summands of a batch's time, as `Costs` has them


@dataclass(slots=True)  # not frozen: it is made for each request, and frozen it takes five times as long
class Load:
    """What of a batch takes time: counts, and sums over the layers that each row is run through."""

    layers: int = 0  # of its deepest row
    texts: int = 0
    tokens: int = 0
    text_layers: int = 0
    token_layers: int = 0
    square_layers: int = 0  # tokens squared: attention looks at every pair

    def with_row(self, tokens: int, layers: int) -> Load:
        """The load with one text more."""
        return self.with_texts(1, tokens, tokens * tokens, layers)

    def with_texts(self, texts: int, tokens: int, squares: int, layers: int) -> Load:
        """The load with ``texts`` more at one depth; ``tokens`` and ``squares`` (of tokens) are summed over them."""
        return Load(
            layers if layers > self.layers else self.layers,
            self.texts + texts,
            self.tokens + tokens,
            self.text_layers + texts * layers,
            self.token_layers + tokens * layers,
            self.square_layers + squares * layers,
        )

    @classmethod
    def of(cls, rows: Iterable[tuple[int, int]]) -> Load:
        """The load of (tokens, layers) pairs."""
        load = cls()
        for tokens, layers in rows:
            load = load.with_row(tokens, layers)
        return load

    @classmethod
    def alike(cls, texts: int, tokens: float, layers: int) -> Load:
        """The load of texts of one length and depth."""
        every = round(texts * tokens)
        return cls(layers, texts, every, texts * layers, every * layers, round(every * tokens) * layers)


@dataclass(slots=True)
class BatchBounds:
    """What a batch may be. A single text is a batch whatever its size."""

    tokens: int
    seconds: float = inf
    texts: int | None = None
    text_tokens: float = 1.0  # of an average text
    gap_s: float = 0.0  # between two batches of a worker
    text_s: float = 0.0  # of an average text by itself, to full depth

    @property
    def text_limit(self) -> float:
        """Tokens of as many average texts as a batch may have."""
        return inf if self.texts is None else self.texts * self.text_tokens


@dataclass(slots=True)  # not frozen: it is made after each batch
class Costs:
    """A snapshot of the cost model: the seconds that each part of a `Load` takes. It does not change afterwards."""

    batch: float = 0.0
    layer: float = 0.0  # of the deepest row
    text: float = 0.0
    token: float = 0.0
    text_layer: float = 0.0
    token_layer: float = 0.0
    square_layer: float = 0.0
    alone: float = 1.0  # factor on a batch that has the machine to itself: no other worker runs one
    spread: float = _SPREAD  # mean of |log(real / predicted)| of late: how far a prediction is out

    @property
    def known(self) -> bool:
        """Whether anything has been measured yet; all predictions are 0 before."""
        return self.seconds(Load(1, 1, 1, 1, 1, 1)) > 0

    def seconds(self, load: Load) -> float:
        """Predicted seconds of a batch on one worker."""
        return (
            self.batch
            + self.layer * load.layers
            + self.text * load.texts
            + self.token * load.tokens
            + self.text_layer * load.text_layers
            + self.token_layer * load.token_layers
            + self.square_layer * load.square_layers
        )

    def per_layer(self, tokens: Floats) -> Floats:
        """Seconds that one layer of one text of so many tokens takes among others, elementwise."""
        return np.asarray(self.text_layer + tokens * (self.token_layer + self.square_layer * tokens) + 1e-12)

    def rows(self, tokens: Floats, texts: Floats, layers: Floats, bounds: BatchBounds) -> Floats:
        """Predicted worker-seconds of requests that run in batches as full as ``bounds`` let them be, elementwise.

        ``tokens`` and ``texts`` of each request, whose texts count as equally long.
        """
        length = tokens / np.maximum(texts, 1e-9)
        fixed, each = self._parts(length, layers)
        # Of a batch that time cuts short, fewer tokens share what every batch costs; and texts leave half a one's room.
        fit = np.minimum((bounds.seconds - fixed) / (each + 1e-12), bounds.tokens) - bounds.text_tokens / 2
        fit = np.minimum(fit, bounds.text_limit)
        return np.asarray(tokens * (each + (fixed + bounds.gap_s) / np.maximum(fit, bounds.text_tokens)))

    def row(self, tokens: float, texts: float, layers: float, bounds: BatchBounds) -> float:
        """As `rows`, of one request: numpy would take five times as long."""
        length = max(tokens / max(texts, 1e-9), 1.0)
        fixed = self.batch + self.layer * layers
        each = self.token + self.text / length
        each += layers * (self.token_layer + self.square_layer * length + self.text_layer / length)
        fit = min((bounds.seconds - fixed) / (each + 1e-12), bounds.tokens) - bounds.text_tokens / 2
        fit = min(fit, bounds.text_limit)
        return tokens * (each + (fixed + bounds.gap_s) / max(fit, bounds.text_tokens))

    def deepest(self, tokens: Floats, seconds: Floats) -> Floats:
        """Layers (real numbers) that texts run alone reach within ``seconds``, elementwise."""
        once = self.batch + self.text + self.token * tokens
        return np.asarray((seconds - once) / (self.layer + self.per_layer(tokens)))

    def _parts(self, length: Floats, layers: Floats) -> tuple[Floats, Floats]:
        """Of a batch: seconds whatever is in it, and seconds a token."""
        length = np.maximum(length, 1.0)
        each = self.token + self.text / length
        each = each + layers * (self.token_layer + self.square_layer * length + self.text_layer / length)
        return np.asarray(self.batch + self.layer * layers), np.asarray(each)


class CostModel:
    """Seconds of a batch = ratio x (a weighted sum of what is in its `Load`), every weight at least 0.

    Fitted by least squares on relative errors, so that short batches count as much as long ones.
    """

    def __init__(self) -> None:
        self._weights: Floats = np.zeros(_PARTS)
        self._shape = [0.0] * _PARTS  # the same as plain numbers, which are quicker one by one
        self._gram: Floats = np.zeros((_PARTS, _PARTS))
        self._target: Floats = np.zeros(_PARTS)
        self._log_ratio = 0.0
        self._log_alone = 0.0
        self._spread = _SPREAD
        self._unfitted: list[tuple[Load, float]] = []  # since the shape was last fitted
        self.costs = Costs()  # what is known now

    def measured(self, samples: Sequence[tuple[Load, float]], alone: Iterable[tuple[Load, float]] = ()) -> None:
        """Begin with what was measured at warm-up: loads and their seconds, all workers busy; then one ``alone``."""
        rows = _relative(samples)
        self._gram += rows.T @ rows
        self._target += rows.sum(axis=0)
        self._solve()
        self._gram *= _HOLD
        self._target *= _HOLD
        self._settle()
        errors = [log(seconds / predicted) for load, seconds in alone if (predicted := self.costs.seconds(load)) > 0]
        if errors:
            self._log_alone = median(errors)
            self._settle()

    def observe(self, load: Load, seconds: float, *, alone: bool = False) -> None:
        """A batch of this load took this long, from being handed to a worker to its answer.

        ``alone``: the other workers, of which there are some, had nothing to do.
        """
        raw = self.costs.seconds(load) * (self.costs.alone if alone else 1.0)
        if raw > 0:
            # The logarithm, so that twice as slow and twice as fast weigh the same; clipped: one stall is not a trend.
            error = min(max(log(seconds / raw), -1.5), 1.5)
            self._spread += _SLOW * (abs(error) - self._spread)
            if alone:
                self._log_alone += _QUICK * error
            else:
                self._log_ratio += _QUICK * error
        self._unfitted.append((load, seconds / self.costs.alone if alone else seconds))
        if raw == 0:
            self.fit()
        self._settle()

    @property
    def unfitted(self) -> int:
        """Batches since the shape was last fitted."""
        return len(self._unfitted)

    def fit(self) -> None:
        """Fit the shape anew; it takes a while, so it is done when nobody waits for it, or is overdue."""
        rows = _relative(self._unfitted)
        weights = _FORGET ** np.arange(len(rows) - 1, -1, -1.0)
        self._gram = _FORGET ** len(rows) * self._gram + rows.T @ (rows * weights[:, None])
        self._target = _FORGET ** len(rows) * self._target + weights @ rows
        self._unfitted.clear()
        before = float(self._weights @ self._target)
        self._solve()
        after = float(self._weights @ self._target)
        if before > 0 and after > 0:  # what the shape has learnt, the ratio need not say again
            self._log_ratio += log(before / after)
        self._settle()

    def _solve(self) -> None:
        self._weights = _non_negative(self._gram, self._target)
        self._shape = self._weights.tolist()

    def _settle(self) -> None:
        ratio = exp(self._log_ratio)
        batch, layer, text, token, text_layer, token_layer, square_layer = (ratio * weight for weight in self._shape)
        self.costs = Costs(
            batch,
            layer,
            text,
            token,
            text_layer,
            token_layer,
            square_layer,
            alone=exp(self._log_alone),
            spread=self._spread,
        )


def _relative(samples: Sequence[tuple[Load, float]]) -> Floats:
    """Loads over their seconds, a row each: times the weights, each is 1 where the prediction is right."""
    found = [
        (1.0, load.layers, load.texts, load.tokens, load.text_layers, load.token_layers, load.square_layers)
        for load, _ in samples
    ]
    seconds = np.array([seconds for _, seconds in samples])
    return np.asarray(np.array(found, np.float64).reshape(-1, _PARTS) / seconds[:, None])


def _non_negative(gram: Floats, target: Floats) -> Floats:
    """Least squares with coefficients >= 0 (Lawson and Hanson 1974), on the normal equations."""
    scale = np.sqrt(np.maximum(gram.diagonal(), 1e-30))
    g = gram / np.outer(scale, scale) + 1e-9 * np.eye(_PARTS)
    t = target / scale
    w = np.zeros(_PARTS)
    free = np.zeros(_PARTS, np.bool_)
    for _ in range(3 * _PARTS):
        gain = np.where(free, -np.inf, t - g @ w)
        if gain.max() <= _GAIN * abs(t).max():
            break
        free[gain.argmax()] = True
        while True:
            at = np.flatnonzero(free)
            solved = np.linalg.solve(g[np.ix_(at, at)], t[at])
            if (solved > 0).all():
                w = np.zeros(_PARTS)
                w[at] = solved
                break
            # Back to where the first of them becomes 0, which then stays so.
            low = solved <= 0
            part = (w[at][low] / np.maximum(w[at][low] - solved[low], 1e-300)).min()
            w[at] += part * (solved - w[at])
            free[at[w[at] <= 1e-15]] = False
            w[~free] = 0.0
            if not free.any():
                break
    return np.asarray(w / scale)
