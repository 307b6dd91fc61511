"""Quality curves: what each exit is worth, and so how deep a text goes at a price of engine time.

The sum of quality is largest where everything that shares the engine's time gains the same quality from its last
second (water-filling on the concave hull of each curve). That gain is the price; a level is a step of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from math import log

import numpy as np
import numpy.typing as npt

LEVELS = 64  # steps of price between everybody's floor (level 0) and full depth
_HIGHEST, _LOWEST = 0.3, 3e-4  # quality a layer, of a text of the usual length, at the first and the last step
_STEP = log(_HIGHEST / _LOWEST) / (LEVELS - 2)
_KNOWN = 512  # curves kept; clients may invent sets of exits, and those are forgotten again

Exits = tuple[int, ...]
Quality = tuple[float | None, ...]


def hull(exits: Exits, quality: Quality, layers: int) -> list[tuple[int, float]]:
    """(exit, quality gained a layer since the one before) on the upper concave hull; the first is the floor, inf.

    Where quality is not measured, each layer is taken to be worth less than the one before it.
    """
    known = [q for q in quality if q is not None]
    if len(known) < len(quality):
        quality = tuple((exit_ / layers) ** 0.25 for exit_ in exits)
    found: list[tuple[int, float, float]] = []  # exit, quality, slope
    for exit_, worth in zip(exits, quality, strict=True):
        assert worth is not None
        slope = float("inf")
        while found:
            before, was, steep = found[-1]
            slope = (worth - was) / (exit_ - before)
            if slope < steep or len(found) == 1:
                break
            found.pop()
        if found and slope <= 0 and exit_ != exits[-1]:
            continue
        found.append((exit_, worth, slope))
    return [(exit_, slope) for exit_, _, slope in found]


@lru_cache(maxsize=_KNOWN)
def _row(exits: Exits, quality: Quality, layers: int) -> npt.NDArray[np.float64]:
    """Layers at each level."""
    row = np.full(LEVELS, exits[0], np.float64)
    for exit_, slope in hull(exits, quality, layers)[1:]:
        # The last level is everybody's full depth, whatever it is worth.
        first = LEVELS - 1 if slope <= _LOWEST else max(1, 1 + round(log(_HIGHEST / slope) / _STEP))
        row[min(first, LEVELS - 1) :] = exit_
    row[-1] = exits[-1]
    return row


class Curves:
    """The curves of what waits, a row each. ``layers``: of the model."""

    def __init__(self, layers: int) -> None:
        self.layers = layers
        self._number: dict[tuple[Exits, Quality], int] = {}
        self.generation = 0  # how often numbers have changed
        self.rows = np.zeros((16, LEVELS), np.float64)

    def __len__(self) -> int:
        return len(self._number)

    def number(self, exits: Exits, quality: Quality) -> int:
        """The row of a curve, ascending exits."""
        key = (exits, quality)
        found = self._number.get(key)
        if found is None:
            found = self._number[key] = len(self._number)
            if found == len(self.rows):
                self.rows = np.concatenate([self.rows, np.zeros_like(self.rows)])
            self.rows[found] = _row(exits, quality, self.layers)
        return found

    def row(self, exits: Exits, quality: Quality) -> npt.NDArray[np.float64]:
        """Layers of a curve at each level."""
        return _row(exits, quality, self.layers)

    def full(self) -> bool:
        """Whether more curves are known than should be; those out of use are to be forgotten."""
        return len(self._number) >= _KNOWN

    def forget_all_but(self, used: Iterable[tuple[Exits, Quality]]) -> None:
        """Begin anew with the curves in use; their numbers change."""
        self._number.clear()
        self.generation += 1
        self.rows = np.zeros((16, LEVELS), np.float64)
        for exits, quality in used:
            self.number(exits, quality)


def shift(costs_per_layer: npt.NDArray[np.float64], usual: float) -> npt.NDArray[np.intp]:
    """Levels by which texts lie behind one of the usual length, whose layer takes ``usual`` seconds."""
    return np.asarray(np.rint(np.log(costs_per_layer / usual) / _STEP), np.intp)
