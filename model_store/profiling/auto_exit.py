"""Per-text exit: where to test and with what threshold, found on unlabelled text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

import numpy as np
import numpy.typing as npt

from strata.model_store.bundle.measured import AutoExit
from strata.model_store.encoding.reference import Vectors, unit

FAITHFUL = 0.98  # cosine to full depth that a text's vector must have
SHARE = 0.95  # of the texts that must have it
WORTH = 0.9  # mean depth, as a share of all layers, above which there is no gain
_GRID = 60  # thresholds tried for a list of exits
_HIGHEST = 0.9999

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Cosines:
    """Of unit vectors [exits, texts, dim] at every exit."""

    exits: tuple[int, ...]
    units: Vectors

    def left(self, tested: Sequence[int], threshold: float) -> npt.NDArray[np.intp]:
        """Number of the exit where each text leaves: the first that agrees with the one tested before, or the last."""
        places = np.full(self.units.shape[1], tested[-1])
        for before, here in reversed(list(pairwise(tested))):
            places[self.between(before, here) >= threshold] = here
        return places

    def between(self, i: int, j: int) -> Floats:
        """Cosine of each text's vectors at two exits, by their numbers."""
        return np.asarray((self.units[i] * self.units[j]).sum(axis=1), np.float64)

    def outcome(self, tested: Sequence[int], threshold: float) -> tuple[float, float]:
        """Mean depth in layers, and the share of texts faithful to full depth."""
        places = self.left(tested, threshold)
        chosen = self.units[places, np.arange(len(places))]
        faithful = (chosen * self.units[-1]).sum(axis=1) >= FAITHFUL
        return float(np.mean(np.asarray(self.exits)[places])), float(faithful.mean())


def calibrate(vectors: Mapping[int, Vectors], texts: str) -> AutoExit | None:
    """The exits and threshold with the least mean depth that keep the promise; None for a model of one exit.

    ``vectors``: exit -> [texts, full]. Found on every second text, with a margin of one standard error, and tried on
    the others, which ``mean_depth`` and ``faithful`` tell of. ``refused`` says why where there is no gain.
    """
    exits = tuple(sorted(vectors))
    if len(exits) < 2:
        return None
    units = np.stack([unit(vectors[exit], vectors[exit].shape[1]) for exit in exits])
    found, tried = (_Cosines(exits, units[:, start::2]) for start in (0, 1))
    count = found.units.shape[1]
    wanted = min(1.0, SHARE + sqrt(SHARE * (1 - SHARE) / count))
    best: tuple[float, tuple[int, ...], float] | None = None
    for tested in sorted(_lists(len(exits))):
        cosines = np.concatenate([found.between(i, j) for i, j in pairwise(tested)])
        # Rounded before they are tried; a cosine of 1 would be a lottery of rounding errors.
        thresholds = np.quantile(cosines, np.linspace(0, 1, _GRID)).round(4).clip(max=_HIGHEST)
        for threshold in np.unique(thresholds).tolist():
            depth, faithful = found.outcome(tested, threshold)
            if faithful >= wanted and (best is None or depth < best[0]):
                best = depth, tested, threshold
    assert best is not None  # between the last two exits every text leaves at the last one
    _, tested, threshold = best
    depth, faithful = tried.outcome(tested, threshold)
    return AutoExit(
        texts=texts,
        count=count,
        exits=tuple(exits[i] for i in tested),
        threshold=threshold,
        mean_depth=round(depth, 2),
        faithful=round(faithful, 4),
        refused=_refusal(depth, faithful, exits[-1]),
    )


def _lists(count: int) -> set[tuple[int, ...]]:
    """Lists of exit numbers to test at, ending with the last: from any exit on, every one or every second or third."""
    last = count - 1
    return {tuple(range(first, count, step)) for step in (1, 2, 3) for first in range(last % step, last, step)}


def _refusal(depth: float, faithful: float, layers: int) -> str | None:
    if faithful < SHARE - 0.02:
        return f"calibrated on one half of the texts, only {faithful:.0%} of the other half kept cosine {FAITHFUL}"
    if depth > WORTH * layers:
        return (
            f"no gain: to keep cosine {FAITHFUL} to full depth for {SHARE:.0%} of the texts, "
            f"a text would run {depth:.1f} of {layers} layers on average"
        )
    return None
