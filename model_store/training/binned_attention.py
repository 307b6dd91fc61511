"""Attention among flat tokens by plain products: rows lie in bins of a few widths, and each row sees itself alone.

A CPU's fused attention takes half as long again on rows of mixed lengths, and its way back is slower still. Row by row,
time goes into small calls and into softmaxes of widths that are slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_STEP = 32  # widths are multiples of it: a bfloat16 softmax of others takes twice the time


@dataclass(frozen=True)
class Bins:
    """Some bins of one width, ``tokens`` [count * width] the flat token at each place, any where there is none.

    ``mask`` [count, 1, width, width] is added to scores; None where each bin is filled by one row.
    """

    count: int
    width: int
    tokens: Tensor
    mask: Tensor | None


@dataclass(frozen=True)
class Binned:
    """All rows in bins, one width after another; ``back`` [tokens] is the place of each flat token among ``places``."""

    bins: list[Bins]
    back: Tensor
    places: int


def bin_rows(lengths: Sequence[int], dtype: torch.dtype, device: torch.device) -> Binned:
    """Rows of these lengths, flat one after the other, in bins: the longest first, shorter ones where there is room."""
    room: list[int] = []  # that each bin has left
    widths: list[int] = []
    lies = [(0, 0)] * len(lengths)  # bin of each row, and where in it the row begins
    for row in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        need = lengths[row]
        at = next((at for at, free in enumerate(room) if free >= need), len(room))
        if at == len(room):
            widths.append(need + -need % _STEP)
            room.append(widths[at])
        lies[row] = (at, widths[at] - room[at])
        room[at] -= need
    begins = np.cumsum([0, *widths])  # the longest row's bin comes first, so equal widths lie together
    firsts = np.array([begins[at] + begin for at, begin in lies])
    starts = np.cumsum([0, *lengths])
    back = np.repeat(firsts - starts[:-1], lengths) + np.arange(starts[-1])
    tokens, rows = np.zeros(begins[-1], np.int64), np.full(begins[-1], -1)
    tokens[back], rows[back] = np.arange(starts[-1]), np.repeat(np.arange(len(lengths)), lengths)
    found = []
    for width in dict.fromkeys(widths):
        count, first = widths.count(width), begins[widths.index(width)]
        here = slice(first, first + count * width)
        mine = rows[here].reshape(count, 1, width)
        # Places without a token see one another: their scores need a sum that is not nothing, and go nowhere.
        others = torch.from_numpy(mine[..., None] != mine[:, :, None])
        mask = torch.zeros(others.shape, dtype=dtype).masked_fill_(others, -torch.inf).to(device)
        found.append(
            Bins(count, width, torch.from_numpy(tokens[here]).to(device), mask if bool(others.any()) else None)
        )
    return Binned(found, torch.from_numpy(back).to(device), int(begins[-1]))


def binned_attention(query: Tensor, key: Tensor, value: Tensor, rows: Binned, heads: int) -> Tensor:
    """Attention of ``query``, ``key`` and ``value`` [tokens, hidden], of ``heads`` heads: [tokens, hidden]."""
    run: Any = _BinnedAttention.apply
    mixed: Tensor = run(query, key, value, rows, heads)
    return mixed


class _BinnedAttention(torch.autograd.Function):
    """With a way back of its own: what torch would derive scatters where it can gather, and scales scores once more."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, rows: Binned, heads: int) -> Tensor:
        scale = (query.shape[1] // heads) ** -0.5
        mixed = query.new_empty(rows.places, query.shape[1])
        kept: list[Tensor] = []
        for bins, here in zip(rows.bins, _of_bins(mixed, rows), strict=True):
            q, k, v = (_by_head(part, bins, heads) for part in (query, key, value))
            scores = _scaled(q, k.transpose(1, 2), scale)
            if bins.mask is not None:
                scores.view(bins.count, heads, bins.width, bins.width).add_(bins.mask)
            shares = scores.softmax(-1)
            _put(here, torch.bmm(shares, v), bins, heads)
            kept += [q, k, v, shares]
        ctx.save_for_backward(*kept)
        ctx.rows, ctx.heads = rows, heads
        return mixed.index_select(0, rows.back)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, heads, kept = ctx.rows, ctx.heads, ctx.saved_tensors
        scale = (gradient.shape[1] // heads) ** -0.5
        found = [gradient.new_empty(rows.places, gradient.shape[1]) for _ in range(3)]
        for at, (bins, *here) in enumerate(zip(rows.bins, *(_of_bins(part, rows) for part in found), strict=True)):
            q, k, v, shares = kept[4 * at : 4 * at + 4]
            mixed = _by_head(gradient, bins, heads)  # at places without a token of some token: no token's share of it
            of_shares = torch.bmm(mixed, v.transpose(1, 2))
            of_scores = torch._softmax_backward_data(of_shares, shares, -1, shares.dtype)
            _put(here[0], _scaled(of_scores, k, scale), bins, heads)
            _put(here[1], _scaled(of_scores.transpose(1, 2), q, scale), bins, heads)
            _put(here[2], torch.bmm(shares.transpose(1, 2), mixed), bins, heads)
        return (*(part.index_select(0, rows.back) for part in found), None, None)


def _of_bins(places: Tensor, rows: Binned) -> Sequence[Tensor]:
    """Views of [places, hidden], one for each width."""
    return torch.split(places, [bins.count * bins.width for bins in rows.bins])


def _by_head(lines: Tensor, bins: Bins, heads: int) -> Tensor:
    """[tokens, hidden] -> [count * heads, width, size], laid out anew, since products of strided parts are slow."""
    here = lines.index_select(0, bins.tokens).view(bins.count, bins.width, heads, -1)
    return here.transpose(1, 2).contiguous().flatten(0, 1)


def _put(places: Tensor, by_head: Tensor, bins: Bins, heads: int) -> None:
    """The way back of ``_by_head``, into a view of places."""
    lines = places.view(bins.count, bins.width, heads, -1)
    lines.copy_(by_head.view(bins.count, heads, bins.width, -1).transpose(1, 2))


def _scaled(left: Tensor, right: Tensor, scale: float) -> Tensor:
    """Batched products times ``scale``, without another pass over them."""
    return torch.baddbmm(left.new_empty(()), left, right, beta=0, alpha=scale)
