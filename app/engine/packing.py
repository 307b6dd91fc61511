"""Rows into packs: several texts side by side in one sequence, so that almost no place is padding.

A pack is ``bins`` sequences of ``width`` places. Rows lie end to end inside a bin and attend only to themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from strata.app.engine.batch import Row

Index = npt.NDArray[np.int64]
EMPTY = -1  # row number of a place that holds no token


@dataclass(slots=True, frozen=True)
class Pack:
    """Where each row's tokens lie. Places are numbered bin by bin, ``bins * width`` in all."""

    rows: list[int]  # row numbers in the batch
    starts: list[int]  # first place of each of ``rows``
    lengths: list[int]  # tokens of each of ``rows``
    bins: int
    width: int

    @property
    def places(self) -> int:
        """Places computed, padding included."""
        return self.bins * self.width

    @property
    def tokens(self) -> int:
        """Places that hold a token."""
        return sum(self.lengths)

    @property
    def one_row_a_bin(self) -> bool:
        """Every bin is exactly one row: attention needs no mask."""
        return len(self.rows) == self.bins and self.tokens == self.places

    def spread(self, values: Sequence[npt.NDArray[np.int32]], fill: int) -> npt.NDArray[np.int32]:
        """One array per row -> one value per place, [places]; ``fill`` where there is no token."""
        out = np.full(self.places, fill, np.int32)
        for start, length, value in zip(self.starts, self.lengths, values, strict=True):
            out[start : start + length] = value
        return out

    def positions(self) -> npt.NDArray[np.int32]:
        """Position of each place's token within its row, [places]; 0 in padding."""
        return self.spread([np.arange(n, dtype=np.int32) for n in self.lengths], 0)

    def owners(self) -> npt.NDArray[np.int32]:
        """Number (within the pack) of the row each place belongs to, [places]; EMPTY in padding."""
        return self.spread([np.full(n, slot, np.int32) for slot, n in enumerate(self.lengths)], EMPTY)

    def keep(self, slots: Sequence[int]) -> tuple[Pack, Index]:
        """The pack of the rows at ``slots`` alone, and for each of its places the place here to copy from."""
        pack = _place([self.rows[s] for s in slots], [self.lengths[s] for s in slots], self.width)
        source = np.zeros(pack.places, np.int64)
        for slot, start, length in zip(slots, pack.starts, pack.lengths, strict=True):
            source[start : start + length] = np.arange(self.starts[slot], self.starts[slot] + length)
        return pack, source


def make_packs(rows: Sequence[Row], *, pack_tokens: int, bin_width: int) -> Iterator[Pack]:
    """Packs of at most ``pack_tokens`` tokens (a longer row gets one of its own), deepest and longest rows first.

    Rows of one depth go together, so that most packs end at one exit and need no re-packing. ``bin_width`` bounds
    the attention window that short rows share; a longer row widens its own pack's bins.
    """
    order = sorted(range(len(rows)), key=lambda i: (-rows[i].layers, -len(rows[i].tokens)))
    chosen: list[int] = []
    total = 0
    for i in order:
        length = len(rows[i].tokens)
        if chosen and total + length > pack_tokens:
            yield _place(chosen, [len(rows[j].tokens) for j in chosen], bin_width)
            chosen, total = [], 0
        chosen.append(i)
        total += length
    if chosen:
        yield _place(chosen, [len(rows[j].tokens) for j in chosen], bin_width)


def _place(rows: list[int], lengths: list[int], bin_width: int) -> Pack:
    """First fit, longest first, into bins just as wide as the fullest one needs."""
    if len(set(lengths)) == 1:  # equal rows: a bin each, no mask, no padding
        starts = [slot * lengths[0] for slot in range(len(rows))]
        return Pack(rows, starts, lengths, bins=len(rows), width=lengths[0])
    limit = max(max(lengths), bin_width)
    room: list[int] = []
    spot: list[tuple[int, int]] = [(0, 0)] * len(rows)
    for slot in sorted(range(len(rows)), key=lambda s: -lengths[s]):
        need = lengths[slot]
        bin_ = next((b for b, free in enumerate(room) if free >= need), len(room))
        if bin_ == len(room):
            room.append(limit)
        spot[slot] = (bin_, limit - room[bin_])
        room[bin_] -= need
    width = limit - min(room)
    return Pack(rows, [b * width + offset for b, offset in spot], lengths, bins=len(room), width=width)
