"""Self-attention over flat tokens on a CPU: short rows share bins of a few widths, and plain products run over them.

On a CPU torch's fused attention is slower on short rows than two batched products and a softmax between them. The
softmax takes half the time, with the same bits, where keys come before queries and bins are a multiple of 32 wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from strata.app.engine.attention import rotary_table
from strata.app.engine.backends.bins import attention_bias
from strata.app.engine.backends.torch_attention import rotate
from strata.app.engine.backends.torch_dense import bins_of
from strata.app.engine.flat import Int32, Layout
from strata.app.engine.weights import Array, relative_bias
from strata.model_store.bundle.bundle import Bundle

_STEP = 32  # widths are multiples of it
_FEW = 48  # tokens of one width, below which their rows join the next wider ones: every width costs some calls
_SCORES = 1 << 21  # that one call holds, unless one bin has more
_ALONE = 64  # lines up to which a row in no company is kept, and needs no multiple of the step
_FUSED = 1024  # places from which on the fused attention is used: it holds no square of scores

Spot = tuple[int, int, int]  # of a row: the first place of its bin, places before it there, the bin's width


@dataclass(slots=True)
class Mask:
    """What scores of some bins are masked by: both [bins, heads or 1, width, width]."""

    added: torch.Tensor  # to the scores
    kept: torch.Tensor | None  # all bits of a bfloat16 score, or none; None: not all that is added is 0 or -infinity

    def apply(self, scores: torch.Tensor) -> None:
        """To [bins, heads, width, width], in place. By bits it takes a third of the time."""
        if self.kept is None:
            scores += self.added
        else:
            scores.view(torch.int16).bitwise_and_(self.kept).bitwise_or_(self.added.view(torch.int16))


@dataclass(slots=True)
class Bins:
    """Some bins of one width."""

    first: int  # place, all bins of a layout one after another
    count: int
    width: int
    fused: bool  # by torch's own attention
    masks: dict[bool, Mask | None]  # by local attention
    angles: dict[bool, tuple[torch.Tensor, torch.Tensor]]  # cos and sin of each place, by local attention


@dataclass(slots=True)
class Binned:
    """All rows of a layout in bins."""

    bins: list[Bins]
    # Heads are moved one by one, so that one pass brings them to their places and lays them out by heads.
    there: torch.Tensor | None  # [3 * heads * places] line and head of each place's; None: one bin, as it lies
    back: torch.Tensor  # [lines * heads] place and head of each line's
    places: int
    padding: int


class BinnedAttention:
    """For every family: bias by distance, windows and rotary positions included.

    Scores are of ``dtype``; queries come divided by the root of the head's size.
    """

    def __init__(self, bundle: Bundle, *, dtype: torch.dtype, fused_alone: bool = True) -> None:
        """``fused_alone``: one short row by fused attention, whose last bits are not those of a batch's."""
        self.a = bundle.manifest.architecture
        self._dtype = dtype
        self._fused_alone = fused_alone
        # Along its last dimension torch's softmax goes row by row, along another a vector of rows at once.
        self._keys_first = dtype == torch.bfloat16
        self._by_distance = relative_bias(bundle)
        self._alone: dict[int, Binned] = {}  # a short row in no company, by its tokens
        self._tables = {}
        if self.a.rotary is not None:
            for local in (False, True):
                cos, sin = rotary_table(self.a.rotary, self.a.head_size, bundle.manifest.max_tokens, local=local)
                self._tables[local] = torch.tensor(cos), torch.tensor(sin)

    def place(self, layout: Layout, lines: int) -> Binned:
        """Rows into bins; ``lines`` is what hidden states have, those after the last token included."""
        if layout.rows > 1 or lines > _ALONE:
            return self._place(layout, lines, *pack(layout.lengths.tolist()))
        known = self._alone.get(layout.tokens)
        if known is None:
            width = lines if self._fused_alone else lines + -lines % _STEP
            known = self._place(layout, lines, [(0, 0, width)], [(0, 1, width)])
            if self._by_distance is None:  # a bias for every head is too large to keep
                self._alone[layout.tokens] = known
        return known

    def _place(self, layout: Layout, lines: int, spots: list[Spot], packs: list[tuple[int, int, int]]) -> Binned:
        places = sum(count * width for _, count, width in packs)
        # One pass over the tokens of all rows: every call of numpy's costs more here, with cold caches, than its work.
        owner = np.repeat(np.arange(layout.rows, dtype=np.int32), layout.lengths)
        first, inside, width = np.array(spots, np.int32).T[:, owner]
        inside += layout.positions
        place = first + inside
        tokens, owners = np.zeros(places, np.int32), np.full(places, -1, np.int32)
        tokens[place], owners[place] = np.arange(layout.tokens, dtype=np.int32), owner
        positions = None
        if self._tables:
            positions = np.zeros(places, np.int32)
            positions[place] = layout.positions
        as_it_lies = self._fused_alone and layout.rows == 1 and lines <= _STEP
        bins = [made for one in packs for made in self._bins(*one, owners, positions, as_it_lies)]
        there = None if as_it_lies else self._there(bins, tokens)
        heads = self.a.attention_heads
        back = np.zeros((lines, heads), np.int32)
        begin = first * heads + inside
        np.add(begin[:, None], width[:, None] * np.arange(heads, dtype=np.int32), out=back[: layout.tokens])
        return Binned(bins, there, torch.from_numpy(back.ravel()), places, places - layout.tokens)

    def _there(self, bins: list[Bins], tokens: Int32) -> torch.Tensor:
        """By ``tokens`` [places], the token at each place; bins by bins queries, keys and values [bin, head, place]."""
        heads = self.a.attention_heads
        begins = tokens * np.int32(3 * heads)
        each = np.arange(3 * heads, dtype=np.int32).reshape(3, 1, heads, 1)
        there = np.empty(3 * heads * len(tokens), np.int32)
        for b in bins:
            here = slice(b.first, b.first + b.count * b.width)
            out = there[3 * heads * here.start : 3 * heads * here.stop].reshape(3, b.count, heads, b.width)
            np.add(begins[here].reshape(b.count, 1, b.width), each, out=out)
        return torch.from_numpy(there)

    def _bins(
        self, first: int, count: int, width: int, owners: Int32, positions: Int32 | None, as_it_lies: bool
    ) -> list[Bins]:
        """Bins of one width, from place ``first`` on, in as many pieces as their scores need."""
        window = self.a.rotary.local_window if self.a.rotary else None
        fused = as_it_lies or width > _FUSED
        some = min(count, max(1, _SCORES // (self.a.attention_heads * width**2)))
        found = []
        for begin in range(first, first + count * width, some * width):
            here = slice(begin, min(begin + some * width, first + count * width))
            mine = owners[here].reshape(-1, width)
            masks = {False: self._mask(attention_bias(mine, by_distance=self._by_distance), fused)}
            if window is not None:
                masks[True] = self._mask(attention_bias(mine, window=window), fused)
            angles = {}
            if positions is not None:
                at = torch.from_numpy(positions[here]).view(-1, 1, width)
                angles = {local: (cos[at], sin[at]) for local, (cos, sin) in self._tables.items()}
            found.append(Bins(begin, len(mine), width, fused, masks, angles))
        return found

    def _mask(self, bias: Array | None, fused: bool) -> Mask | None:
        if bias is None:
            return None
        added = torch.from_numpy(bias).to(self._dtype)
        if fused or not self._keys_first:
            return Mask(added, None)
        if self._by_distance is not None:  # only then is it another one from key to query
            return Mask(added.transpose(2, 3).contiguous(), None)
        return Mask(added, (added.view(torch.int16) >> 15).bitwise_not_())

    def __call__(self, qkv: torch.Tensor, place: Binned, *, local: bool) -> torch.Tensor:
        """qkv: [lines, 3 * hidden] -> [lines, hidden], of which those of tokens mean anything."""
        heads, size = self.a.attention_heads, self.a.head_size
        if place.there is None:
            q, k, v = qkv.view(1, -1, 3, heads, size).permute(2, 0, 3, 1, 4).unbind()
            return self._fused(q, k, v, place.bins[0], local).transpose(1, 2).reshape(-1, heads * size)
        there = qkv.view(-1, size).index_select(0, place.there)
        mixed = torch.empty((place.places * heads, size), dtype=self._dtype)
        for bins in place.bins:
            begin, some = bins.first * heads, bins.count * bins.width * heads
            q, k, v = there[3 * begin : 3 * (begin + some)].view(3, -1, bins.width, size).unbind()
            self._mix(q, k, v, bins, local, mixed[begin : begin + some].view(-1, bins.width, size))
        return mixed.index_select(0, place.back).view(-1, heads * size)

    def _mix(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bins: Bins, local: bool, out: torch.Tensor
    ) -> None:
        """All [bins * heads, width, head]: of four dimensions torch's product would lay the keys out once more."""
        shape = (bins.count, self.a.attention_heads, bins.width, self.a.head_size)
        if bins.fused:
            out.view(shape)[:] = self._fused(q.view(shape), k.view(shape), v.view(shape), bins, local)
            return
        if bins.angles:
            q, k = (rotate(x.view(shape), *bins.angles[local]).view(out.shape) for x in (q, k))
        scores = torch.bmm(k, q.transpose(1, 2)) if self._keys_first else torch.bmm(q, k.transpose(1, 2))
        mask = bins.masks[local]
        if mask is not None:
            mask.apply(scores.view(bins.count, -1, bins.width, bins.width))
        shares = scores.softmax(1).transpose(1, 2) if self._keys_first else scores.softmax(2)
        torch.bmm(shares, v, out=out)

    def _fused(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bins: Bins, local: bool) -> torch.Tensor:
        if bins.angles:
            q, k = rotate(q, *bins.angles[local]), rotate(k, *bins.angles[local])
        mask = bins.masks[local]
        return F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask.added, scale=1.0)


def pack(lengths: list[int]) -> tuple[list[Spot], list[tuple[int, int, int]]]:
    """Rows of these lengths into bins of few widths, the longest first; shorter rows fill what wider bins leave free.

    Each row's spot; of each width the first place, bins and width. Places are numbered all bins one after another.
    """
    spots, places = [(0, 0, 0)] * len(lengths), 0
    packs: list[tuple[int, int, int]] = []
    waiting = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    widths = _widths(lengths)
    for width, narrower in zip(widths, [*widths[1:], 0], strict=True):
        room: list[int] = []  # that each bin has left
        left: list[int] = []
        for row in waiting:
            need = lengths[row]
            if need <= narrower and not left:  # from here on rows only fill; bins that only make up the number, too
                room += [width] * (bins_of(len(room)) - len(room))
            bin_ = next((b for b, free in enumerate(room) if free >= need), len(room))
            if bin_ == len(room):
                if need <= narrower:
                    left.append(row)
                    continue
                room.append(width)
            spots[row] = places + bin_ * width, width - room[bin_], width
            room[bin_] -= need
        if room:
            packs.append((places, bins_of(len(room)), width))
            places += packs[-1][1] * width
        waiting = left
    return spots, packs


def _widths(lengths: list[int]) -> list[int]:
    """Of the bins, the widest first."""
    tokens: dict[int, int] = {}
    for length in lengths:
        width = length + -length % _STEP
        tokens[width] = tokens.get(width, 0) + length
    widest = max(tokens)
    return [width for width in sorted(tokens, reverse=True) if width == widest or tokens[width] >= _FEW]
