"""Where a batch lies on the device: one array of integers copied from pinned memory at once, hidden states, answers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from strata.app.engine.flat import FlatBatch

ALIGNED = 4  # integers: kernels are compiled for pointers to multiples of 16 bytes, and again for others
ROW_STEP = 128  # rows come in multiples of it: few shapes for cuBLAS to plan the heads for


@dataclass(slots=True)
class Buffers:
    """Memory for up to ``rows`` rows on ``places`` token places, and what each row asks for."""

    rows: int
    places: int
    row_starts: torch.Tensor  # [rows + 1 and more] int32; rows that are none start where the tokens end
    facts: torch.Tensor  # [rows, 4] int32 as a FlatBatch has them; the depth of rows that are none is -1
    order: torch.Tensor  # [rows] int32, the row's number in the batch
    sources: torch.Tensor  # [rows] int32, where the row's tokens begin in ``ids``
    ids: torch.Tensor  # [places] int32, as the batch has them
    starts: torch.Tensor  # [places] int32, first token of each token's row
    ends: torch.Tensor  # [places] int32, the one after its last
    hidden: torch.Tensor  # [places, hidden]
    answers: torch.Tensor  # [rows, full_dim] float32
    packed: torch.Tensor  # the memory of the first five


def allocate(
    rows: int, places: int, *, hidden: int, full_dim: int, dtype: torch.dtype, device: torch.device
) -> Buffers:
    """Uninitialised buffers for at least so many rows."""
    rows += -rows % ROW_STEP
    packed = torch.empty(7 * rows + ALIGNED + places, dtype=torch.int32, device=device)
    row_starts, facts, order, sources, ids = torch.split(packed, [rows + ALIGNED, 4 * rows, rows, rows, places])
    bounds = torch.empty((2, places), dtype=torch.int32, device=device)
    return Buffers(
        rows,
        places,
        row_starts,
        facts.view(rows, 4),
        order,
        sources,
        ids,
        bounds[0],
        bounds[1],
        torch.empty((places, hidden), dtype=dtype, device=device),
        torch.empty((rows, full_dim), dtype=torch.float32, device=device),
        packed,
    )


class Staging:
    """Page-locked host memory, which the device copies from and to by itself. One batch at a time."""

    def __init__(self, device: torch.device, answers: int) -> None:
        """``answers``: floats of the largest answer that is expected."""
        self._pin = device.type == "cuda"
        self._up = self._new(1 << 16, torch.int32)
        self._answers = answers

    def _new(self, count: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(count, dtype=dtype, pin_memory=self._pin)

    def send(self, flat: FlatBatch, to: Buffers) -> None:
        """Fill the integers of ``to`` with one copy, without waiting for it."""
        rows, tokens, most = flat.layout.rows, flat.layout.tokens, to.rows
        count = 7 * most + ALIGNED + tokens
        if count > len(self._up):
            self._up = self._new(2 * count, torch.int32)
        host = self._up.numpy()[:count]
        host[: rows + 1] = flat.layout.starts
        host[rows + 1 : most + 1] = tokens
        host = host[most + ALIGNED :]
        facts = host[: 4 * most].reshape(most, 4)
        facts[:rows], facts[rows:, 1] = flat.facts, -1
        host[4 * most : 4 * most + rows], host[5 * most : 5 * most + rows] = flat.order, flat.sources
        host[6 * most :] = flat.given
        to.packed[:count].copy_(self._up[:count], non_blocking=True)

    def receive(self, source: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """A float32 tensor on the host; waits for everything before it.

        In memory that torch reuses once nobody holds it any more, always of one size, so that none is page-locked anew.
        """
        host = self._new(max(source.numel(), self._answers), torch.float32)[: source.numel()].view(source.shape)
        host.copy_(source, non_blocking=True)
        if self._pin:
            torch.cuda.current_stream(source.device).synchronize()
        return host.numpy()
