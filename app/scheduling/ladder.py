"""Levels: one number that says how deep everything may run, and what it means for requests with their own exits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


class Ladders:
    """For every set of exits, the layers it runs at each level: its deepest exit not over the level, or its floor.

    A level is a depth, 0 to the model's layers; level 0 is everybody's floor.
    """

    def __init__(self, layers: int) -> None:
        self.layers = layers
        self._number: dict[tuple[int, ...], int] = {}
        self._rows = np.zeros((16, layers + 1), np.float64)

    def number(self, exits: tuple[int, ...]) -> int:
        """The row of a set of exits, ascending."""
        found = self._number.get(exits)
        if found is None:
            found = self._number[exits] = len(self._number)
            if found == len(self._rows):
                self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
            for level in range(self.layers + 1):
                self._rows[found, level] = max((e for e in exits if e <= level), default=exits[0])
        return found

    def depth(self, numbers: npt.NDArray[np.intp], level: npt.NDArray[np.intp] | int) -> npt.NDArray[np.float64]:
        """Layers at a level, elementwise."""
        found: npt.NDArray[np.float64] = self._rows[numbers, level]
        return found
