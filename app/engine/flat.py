"""A batch as flat tokens: rows end to end without padding, the deepest first, so that leaving is a slice."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from strata.app.engine.batch import Batch

Int32 = npt.NDArray[np.int32]
Index = npt.NDArray[np.int64]

# Weights of a row's tokens and layers in its sort key: the deepest rows come first, of those the longest.
_RANK = np.array([-1, -1 << 32])


@dataclass(frozen=True)
class Layout:
    """Where the rows that are still in a batch lie: row i has the tokens ``starts[i]`` to ``starts[i + 1]``."""

    starts: Int32  # [rows + 1], from 0 to the number of tokens

    @cached_property
    def positions(self) -> Int32:
        """Of each token within its row, [tokens]."""
        positions: Int32 = np.arange(self.tokens, dtype=np.int32)
        return positions if self.rows == 1 else positions - np.repeat(self.starts[:-1], self.lengths)

    @property
    def rows(self) -> int:
        """Rows that are in."""
        return len(self.starts) - 1

    @property
    def tokens(self) -> int:
        """Tokens of these rows."""
        return int(self.starts[-1])

    @cached_property
    def lengths(self) -> Int32:
        """Tokens of each row, [rows]."""
        lengths: Int32 = self.starts[1:] - self.starts[:-1]
        return lengths

    def first(self, rows: int) -> Layout:
        """The layout of the first ``rows`` rows, a view of this one."""
        return Layout(self.starts[: rows + 1])

    def take(self, rows: Index) -> tuple[Layout, Index]:
        """The layout of these rows alone, and for each of its tokens the token here it is: [tokens left]."""
        lengths = self.lengths[rows]
        left = layout_of(lengths)
        return left, np.repeat(self.starts[rows].astype(np.int64), lengths) + left.positions


def layout_of(lengths: Int32) -> Layout:
    """Rows of these lengths end to end."""
    starts = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=starts[1:])
    return Layout(starts)


@dataclass(frozen=True)
class FlatBatch:
    """Everything the host knows of a batch's way through the layers, computed once."""

    order: Index  # [rows] number in the batch of each row here
    given: Int32  # [tokens] ids as the batch has them
    sources: Int32  # [rows] where the tokens of each row here begin in ``given``
    layout: Layout
    facts: Int32  # [rows, 4]: tokens, layers to run at most (falling), elements of the vector, whether to normalise it

    @property
    def depths(self) -> Int32:
        """Layers to run at most, falling, [rows]."""
        return self.facts[:, 1]

    @property
    def dims(self) -> Int32:
        """Elements of the vector, [rows]."""
        return self.facts[:, 2]

    @property
    def normalize(self) -> npt.NDArray[np.bool_]:
        """[rows]."""
        normalize: npt.NDArray[np.bool_] = self.facts[:, 3] != 0
        return normalize

    @cached_property
    def ids(self) -> Int32:
        """Token ids in the order of the rows here, [tokens]. A GPU gathers them itself, which spares the host this."""
        if len(self.facts) == 1:
            return self.given
        found: Int32 = self.given[np.repeat(self.sources, self.layout.lengths) + self.layout.positions]
        return found

    def exits(self) -> list[tuple[int, int, int]]:
        """Where rows leave, shallowest first: after ``layers`` blocks, rows ``begin`` to ``end - 1``."""
        depths = self.depths
        if depths[0] == depths[-1]:
            return [(int(depths[0]), 0, len(depths))]
        begins = [0, *(np.flatnonzero(np.diff(depths)) + 1).tolist()]
        ends = [*begins[1:], len(depths)]
        return [(int(depths[begin]), begin, end) for begin, end in zip(begins, ends, strict=True)][::-1]


def flatten(batch: Batch, *, by_length: bool = True) -> FlatBatch:
    """Rows sorted by depth (deepest first) and, with ``by_length``, within a depth by length (longest first)."""
    facts = batch.facts
    if len(facts) == 1:  # what follows takes longer than it looks where nothing is in the cache
        starts = np.array([0, len(batch.ids)], np.int32)
        return FlatBatch(np.zeros(1, np.int64), batch.ids, starts[:1], Layout(starts), facts)
    if not by_length and (facts[:, 1] == facts[0, 1]).all():
        layout = layout_of(facts[:, 0])
        return FlatBatch(np.arange(len(facts)), batch.ids, layout.starts[:-1], layout, facts)
    order = np.argsort(facts[:, :2] @ _RANK if by_length else -facts[:, 1], kind="stable")
    sources = (np.cumsum(facts[:, 0], dtype=np.int32) - facts[:, 0])[order]
    facts = facts[order]
    return FlatBatch(order, batch.ids, sources, layout_of(facts[:, 0]), facts)
