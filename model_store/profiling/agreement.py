"""Whether vectors of two exits compare: cosine of the same text at both, over unlabelled text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from strata.model_store.bundle.measured import Agreement, Bar
from strata.model_store.encoding.reference import Vectors, unit

# On the default model's search (SciFact, queries at exit 11 and 10 on documents at 12) a mean of .95 with a worst
# percentile of .89 kept 98 % of full depth's nDCG@10, one of .81 with .69 kept 84 %.
BAR = Bar(mean=0.9, p01=0.85)


def measure_agreement(vectors: Mapping[int, Vectors], dims: Sequence[int], texts: str, bar: Bar = BAR) -> Agreement:
    """Agreement of the exits of ``vectors`` (exit -> [texts, full]); ``texts`` names what was encoded."""
    exits = tuple(sorted(vectors))
    full = vectors[exits[-1]].shape[1]
    by_dim = {dim: _cosines(vectors, exits, dim) for dim in (*dims, full)}
    mean, p01 = by_dim[full]
    return Agreement(
        texts=texts,
        count=len(vectors[exits[-1]]),
        exits=exits,
        mean=_rows(mean),
        p01=_rows(p01),
        bar=bar,
        sharing={dim: _sharing(exits, *by_dim[dim], bar) for dim in dims},
    )


def _cosines(
    vectors: Mapping[int, Vectors], exits: Sequence[int], dim: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and worst percentile [exits, exits] of the centred cosines of vectors cut to ``dim``."""
    # One mean for all exits, as all would lie in one index: an exit whose vectors are shifted must not look aligned.
    centre = unit(vectors[exits[-1]], dim).mean(axis=0)
    centred = [unit(unit(vectors[exit], dim) - centre, dim) for exit in exits]
    mean, p01 = np.ones((2, len(exits), len(exits)))
    for i, first in enumerate(centred):
        for j, second in enumerate(centred[:i]):
            cosines = (first * second).sum(axis=1)
            mean[i, j] = mean[j, i] = cosines.mean()
            p01[i, j] = p01[j, i] = np.quantile(cosines, 0.01)
    return mean, p01


def _sharing(
    exits: tuple[int, ...], mean: npt.NDArray[np.float64], p01: npt.NDArray[np.float64], bar: Bar
) -> tuple[int, ...]:
    """The last exit, and from there downwards every exit that reaches the bar with all taken so far."""
    taken = [len(exits) - 1]
    for i in reversed(range(len(exits) - 1)):
        if all(mean[i, j] >= bar.mean and p01[i, j] >= bar.p01 for j in taken):
            taken.append(i)
    return tuple(exits[i] for i in sorted(taken))


def _rows(matrix: npt.NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(float(value), 4) for value in row) for row in matrix)
