"""Rows into bins: several texts side by side in one sequence, so that graphs of [bins, width] compute little padding.

A pack is ``bins`` sequences of ``width`` places. Rows lie end to end inside a bin and attend only to themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from strata.app.engine.flat import Index, Int32, Layout

Array = npt.NDArray[np.float32]
T = TypeVar("T", np.float32, np.int32, np.int64)


@dataclass(slots=True, frozen=True)
class Pack:
    """Where each token of some rows lies. Places are numbered bin by bin, ``bins * width`` in all."""

    bins: int
    width: int
    place: Index  # [tokens] of each token, row by row
    owner: Int32  # [tokens] number of its row

    @property
    def places(self) -> int:
        """Places computed, padding included."""
        return self.bins * self.width

    @property
    def padding(self) -> int:
        """Places that hold no token."""
        return self.places - len(self.place)

    @property
    def owners(self) -> Int32:
        """Number of each place's row, -1 where there is none: [bins, width]."""
        return self.spread(self.owner, -1).reshape(self.bins, self.width)

    def spread(self, values: npt.NDArray[T], fill: float) -> npt.NDArray[T]:
        """One value (or row of values) per token -> one per place, ``fill`` where there is no token."""
        out = np.full((self.places, *values.shape[1:]), fill, values.dtype)
        out[self.place] = values
        return out


def pack_rows(layout: Layout, bin_width: int) -> Pack:
    """First fit, longest first, into bins just as wide as the fullest one needs.

    ``bin_width`` bounds the attention window that short rows share; a longer row widens all bins.
    """
    lengths = layout.lengths.tolist()
    # Equal rows have a bin each, and need no mask.
    limit = max(*lengths, bin_width) if len(set(lengths)) > 1 else lengths[0]
    room: list[int] = []
    spot = np.zeros((len(lengths), 2), np.int64)  # bin and offset of each row
    for row in sorted(range(len(lengths)), key=lambda r: -lengths[r]):
        need = lengths[row]
        bin_ = next((b for b, free in enumerate(room) if free >= need), len(room))
        if bin_ == len(room):
            room.append(limit)
        spot[row] = bin_, limit - room[bin_]
        room[bin_] -= need
    width = limit - min(room)
    owner = np.repeat(np.arange(layout.rows, dtype=np.int32), layout.lengths)
    place = (spot[:, 0] * width + spot[:, 1])[owner] + layout.positions
    return Pack(len(room), width, place, owner)


def attention_bias(owners: Int32, *, window: int | None = None, by_distance: Array | None = None) -> Array | None:
    """What is added to the attention scores: [bins, 1 or heads, width, width], or None where nothing is.

    ``owners`` [bins, width] is the number of each place's row, -1 where there is none. A row sees itself alone; with
    ``window``, only tokens at most ``window // 2`` away; ``by_distance`` [heads, 2 * n - 1] adds a bias per head and
    distance (MPNet). Padding sees padding, to keep its scores finite.
    """
    width = owners.shape[1]
    one_row_a_bin = owners[-1, -1] >= 0 and bool((owners == owners[:, :1]).all())
    if one_row_a_bin and by_distance is None and (window is None or width <= window // 2 + 1):
        return None
    seen = owners[:, :, None] == owners[:, None, :]
    # Rows lie unbroken in a bin, so distances between places are distances between positions.
    place = np.arange(width, dtype=np.int32)  # of 8,192 tokens each of these squares has 64 million
    if window is not None:
        near = np.abs(place[None, :] - place[:, None]) <= window // 2
        seen &= near | (owners[:, None, :] < 0)
        del near
    bias = np.where(seen, np.float32(0), np.float32(-np.inf))[:, None]
    if by_distance is not None:
        reach = by_distance.shape[1] // 2
        bias = bias + by_distance[:, np.clip(place[None, :] - place[:, None] + reach, 0, 2 * reach)]
    return bias
