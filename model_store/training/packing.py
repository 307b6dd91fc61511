"""A step's rows side by side in bins, without padding between them: few shapes, and no token computed for nothing."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

NO_ROW = -1  # slot of a token that fills a bin's end


@dataclass(frozen=True)
class PaddedRows:
    """Where rows' tokens lie among the flat ones: ``index`` [rows, longest] (0 where padded), ``mask`` of tokens."""

    index: Tensor
    mask: Tensor
    even: bool  # all rows are of one length


@dataclass(frozen=True)
class Packed:
    """Rows of tokens in ``bins`` of one width; no row lies in two bins. Flat tokens are the bins one after the other.

    ``ids``, ``positions`` (from 0 in each row) and ``slots`` (a token's row among its bin's, or NO_ROW) are
    [bins, width]; ``starts`` [sequences + 1] int32 says where each row, and each bin's filling, begins among the flat
    tokens; ``places`` [rows] is bin * slot_count + slot of each row.
    """

    ids: Tensor
    positions: Tensor
    slots: Tensor
    starts: Tensor
    places: Tensor
    slot_count: int  # rows of the fullest bin
    lengths: tuple[int, ...]  # of the sequences, as starts has them
    tokens: int  # of the rows, filling not counted

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(self.lengths)

    def to(self, device: torch.device) -> Self:
        """The same on another device."""

        def moved(tensor: Tensor) -> Tensor:
            # Pinned, or the copy would wait for all that the GPU has still to do.
            return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)

        held = ((f.name, getattr(self, f.name)) for f in fields(self))
        tensors: dict[str, Any] = {name: moved(value) for name, value in held if isinstance(value, Tensor)}
        return replace(self, **tensors)

    def padded(self) -> PaddedRows:
        """The rows a line each, for encoders that cannot take them side by side; ``flat`` is the way back."""
        lengths = torch.bincount(self.row_of_token()[self.is_token()], minlength=len(self.places))
        steps = torch.arange(int(lengths.max()), device=lengths.device)
        mask = steps < lengths[:, None]
        firsts = torch.nonzero((self.positions.flatten() == 0) & self.is_token()).flatten()
        begins = torch.empty_like(lengths)
        begins[self.row_of_token()[firsts]] = firsts
        return PaddedRows(torch.where(mask, begins[:, None] + steps, 0), mask, bool(mask.all()))

    def flat(self, values: Tensor, rows: PaddedRows) -> Tensor:
        """Values [rows, longest, ...] as those of flat tokens [bins * width, ...]; filling is zero."""
        made = values.new_zeros((self.ids.numel(), *values.shape[2:]))
        return made.index_put((rows.index[rows.mask],), values[rows.mask])

    def is_token(self) -> Tensor:
        """Which flat tokens belong to a row."""
        return self.slots.flatten() != NO_ROW

    def row_of_token(self) -> Tensor:
        """Of each flat token, the row's place in ``places``; of filling, anything."""
        bins = torch.arange(len(self.slots), device=self.slots.device)[:, None]
        row_at = torch.zeros(len(self.slots) * self.slot_count, dtype=torch.long, device=self.slots.device)
        row_at[self.places] = torch.arange(len(self.places), device=self.slots.device)
        return row_at[(bins * self.slot_count + self.slots.clamp(min=0)).flatten()]


def pack(rows: Sequence[Sequence[int]], bins: int, width: int, pad_id: int) -> Packed:
    """Rows of at most ``width`` ids in ``bins`` bins, longest first, each to the bin with the most room.

    A row for which there is no room is left out.
    """
    room = [(-width, at) for at in range(bins)]
    ids = np.full((bins, width), pad_id, np.int64)
    positions, slots = np.zeros((bins, width), np.int64), np.full((bins, width), NO_ROW, np.int64)
    held: list[list[int]] = [[] for _ in range(bins)]  # lengths of each bin's rows
    placed: list[tuple[int, int]] = []  # bin, slot
    for at in sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i)):
        length = len(rows[at])
        free, bin_ = room[0]
        if length > -free:
            continue
        begin, slot = width + free, len(held[bin_])
        ids[bin_, begin : begin + length] = rows[at]
        positions[bin_, begin : begin + length] = np.arange(length)
        slots[bin_, begin : begin + length] = slot
        held[bin_].append(length)
        placed.append((bin_, slot))
        heapq.heapreplace(room, (free + length, bin_))
    starts = [0]
    for lengths in held:
        for length in (*lengths, width - sum(lengths)):
            if length:
                starts.append(starts[-1] + length)
    slot_count = max(1, *map(len, held))
    return Packed(
        ids=torch.from_numpy(ids),
        positions=torch.from_numpy(positions),
        slots=torch.from_numpy(slots),
        starts=torch.tensor(starts, dtype=torch.int32),
        places=torch.tensor([bin_ * slot_count + slot for bin_, slot in placed]),
        slot_count=slot_count,
        lengths=tuple(b - a for a, b in itertools.pairwise(starts)),
        tokens=sum(map(sum, held)),
    )
