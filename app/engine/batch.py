"""What the engine is given and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TokenIds = npt.NDArray[np.int32]
Vector = npt.NDArray[np.float32]


@dataclass(slots=True, frozen=True)
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


@dataclass(slots=True, frozen=True)
class Batch:
    """Rows run together, each leaving at its own depth."""

    rows: list[Row]

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return sum(len(row.tokens) for row in self.rows)


@dataclass(slots=True, frozen=True)
class BatchResult:
    """The answer to a batch: row i's vector, and the layers that really ran for it."""

    vectors: list[Vector]  # row i: [dim] float32
    layers: list[int]
    seconds: float  # in the engine, first to last row
    padded_tokens: int  # token places computed that held no token
