"""Which exits a shallower one beats by more than the sets can tell apart: a paired bootstrap over their items.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; for retrieval, Sakai, SIGIR 2006.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from strata.model_store.bundle.quality import Side, ToldApart
from strata.model_store.profiling.set_result import Floats, SetResult

SAMPLES, CONFIDENCE = 1000, 0.95
_SEED = 1979


def tell_apart(
    found: Sequence[SetResult], references: Mapping[str, float], samples: int = SAMPLES, confidence: float = CONFIDENCE
) -> ToldApart:
    """Judge every task of the sets that decide, on its mean share; ``references``: the source model's score by set."""
    tables: dict[Side, dict[str, dict[int, dict[int, int]]]] = {"alike": {}, "queries": {}}
    for side, by_task in tables.items():
        for task in dict.fromkeys(each.task for each in found):
            sets = [each for each in found if each.task == task and each.decides and each.cells(side)]
            if sets:
                by_task[task] = _beaten(sets, side, references, samples, confidence)
    return ToldApart(samples=samples, confidence=confidence, alike=tables["alike"], queries=tables["queries"])


def _beaten(
    sets: Sequence[SetResult], side: Side, references: Mapping[str, float], samples: int, confidence: float
) -> dict[int, dict[int, int]]:
    """By dim, the exits that are beaten and by which; among several the one with the highest share."""
    cells = [cell for cell in sets[0].cells(side) if all(cell in each.cells(side) for each in sets)]
    shares: Floats = np.zeros((samples, len(cells)))
    random = np.random.default_rng(_SEED)
    for each in sets:
        items = np.stack([each.cells(side)[cell] for cell in cells], axis=1)
        for sample in range(samples):
            shares[sample] += each.drawn(items, random.integers(0, len(items), len(items))) / references[each.name]
    columns = {cell: column for column, cell in enumerate(cells)}
    found: dict[int, dict[int, int]] = {}
    for dim in dict.fromkeys(dim for _, dim in cells):
        exits = sorted(layers for layers, d in cells if d == dim)
        for place, deep in enumerate(exits):
            ahead = [
                (float(shares[:, columns[shallow, dim]].mean()), shallow)
                for shallow in exits[:place]
                if (shares[:, columns[shallow, dim]] > shares[:, columns[deep, dim]]).mean() >= confidence
            ]
            if ahead:
                found.setdefault(dim, {})[deep] = max(ahead)[1]
    return found
