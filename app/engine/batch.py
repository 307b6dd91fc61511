"""What the engine is given and what it gives back."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

Int32 = npt.NDArray[np.int32]
TokenIds = Int32
Vector = npt.NDArray[np.float32]
Vectors = list[Vector] | npt.NDArray[np.float32]  # [rows][dim]; one array where every row has the same dim


@dataclass(slots=True)  # one is made for every text: frozen, it would take three times as long
class Row:
    """One text of a batch: its token ids (special tokens included), and where it leaves.

    With a ``threshold`` it leaves earlier than ``layers`` at the first of the manifest's ``auto_exit.exits`` (without
    one: of all trained exits) whose vector has at least this cosine to the one at the exit tested before (LEAP,
    arXiv 2605.01058). The vectors compared are headed and uncut, so the depth does not depend on ``dim``.
    """

    tokens: TokenIds  # [n]
    layers: int  # blocks to run (at most, with a threshold), 1-based exit
    dim: int  # length of the vector
    normalize: bool = True
    threshold: float | None = None  # per-text exit


class Batch:
    """Rows run together, each leaving at its own depth; as rows, and as the arrays that cross to a worker."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = list(rows)

    @classmethod
    def of_arrays(cls, facts: Int32, thresholds: npt.NDArray[np.float64], ids: TokenIds) -> Batch:
        """The batch that has these arrays; rows are made of them when asked for."""
        batch = cls.__new__(cls)
        batch.facts, batch.thresholds, batch.ids = facts, thresholds, ids
        return batch

    @cached_property
    def rows(self) -> list[Row]:
        """Every row."""
        lists = zip(self.facts.tolist(), self.thresholds.tolist(), strict=True)
        tokens = np.split(self.ids, np.cumsum(self.facts[:-1, 0]))
        return [
            Row(ids, layers, dim, bool(normalize), None if math.isnan(threshold) else threshold)
            for ids, ((_, layers, dim, normalize), threshold) in zip(tokens, lists, strict=True)
        ]

    @cached_property
    def facts(self) -> Int32:
        """[rows, 4]: tokens, layers, dim, normalize."""
        found = [(len(r.tokens), r.layers, r.dim, r.normalize) for r in self.rows]
        return np.array(found, np.int32).reshape(-1, 4)

    @cached_property
    def thresholds(self) -> npt.NDArray[np.float64]:
        """[rows]; not a number where a row has none."""
        return np.array([np.nan if r.threshold is None else r.threshold for r in self.rows], np.float64)

    @cached_property
    def ids(self) -> TokenIds:
        """[tokens], row after row."""
        return np.concatenate([row.tokens for row in self.rows])


@dataclass(slots=True, frozen=True)
class BatchResult:
    """The answer to a batch: row i's vector, and the layers that really ran for it."""

    vectors: Vectors  # row i: [dim] float32
    layers: list[int]
    seconds: float  # in the engine, first to last row
    padded_tokens: int  # token places computed that held no token
