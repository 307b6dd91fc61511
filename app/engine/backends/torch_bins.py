"""Self-attention over flat tokens on a CPU: short rows share bins of a few widths, and plain products run over them.

On a CPU torch's fused attention is slower on short rows than two batched products and a softmax between them, and
the softmax is fast only where its rows are a multiple of 32 wide.
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
from strata.app.engine.flat import Index, Int32, Layout
from strata.app.engine.weights import Array, relative_bias
from strata.model_store.bundle.bundle import Bundle

_STEP = 32  # widths are multiples of it
_FEW = 48  # tokens of one width, below which their rows join the next wider ones: every width costs some calls
_SCORES = 1 << 21  # that one call holds, unless one bin has more
_ALONE = 64  # lines up to which a text alone needs no multiple of the step
_FUSED = 1024  # places from which on the fused attention is used: it holds no square of scores


@dataclass(slots=True)
class Bins:
    """Some bins of one width."""

    count: int
    width: int
    tokens: torch.Tensor | None  # [count * width] token at each place; any, where there is none; None: as they lie
    masks: dict[bool, torch.Tensor | None]  # what is added to the scores, by local attention
    angles: dict[bool, tuple[torch.Tensor, torch.Tensor]]  # cos and sin of each place, by local attention


@dataclass(slots=True)
class Binned:
    """All rows of a layout in bins."""

    bins: list[Bins]
    back: torch.Tensor | None  # [lines] the place of each line, all bins one after another; None: as they lie
    padding: int


class BinnedAttention:
    """For every family: bias by distance, windows and rotary positions included.

    Scores are of ``dtype``; queries come divided by the root of the head's size.
    """

    def __init__(self, bundle: Bundle, *, dtype: torch.dtype, fused_alone: bool = True) -> None:
        """``fused_alone``: one short bin by fused attention, whose last bits are not those of a batch's."""
        self._fused_up_to = _STEP if fused_alone else 0
        self.a = bundle.manifest.architecture
        self._dtype = dtype
        self._by_distance = relative_bias(bundle)
        # What hides the keys after a text's last token, cut out where scores depend on no distance.
        plain = self._by_distance is None and self.a.rotary is None
        self._ends = torch.tensor([0.0] * _ALONE + [-torch.inf] * _ALONE, dtype=dtype) if plain else None
        self._tables = {}
        if self.a.rotary is not None:
            for local in (False, True):
                cos, sin = rotary_table(self.a.rotary, self.a.head_size, bundle.manifest.max_tokens, local=local)
                self._tables[local] = torch.tensor(cos), torch.tensor(sin)

    def place(self, layout: Layout, lines: int) -> Binned:
        """Rows into bins; ``lines`` is what hidden states have, those after the last token included."""
        if layout.rows == 1 and self._ends is not None and lines <= _ALONE:
            return self._alone(layout.tokens, lines)
        begins, packs, places = pack(layout.lengths.tolist())
        # One pass over the tokens of all rows: every call of numpy's costs more here, with cold caches, than its work.
        owner = np.repeat(np.arange(layout.rows, dtype=np.int32), layout.lengths)
        back = np.zeros(lines, np.int64)
        place = np.add(np.array(begins)[owner], layout.positions, out=back[: layout.tokens])
        tokens, owners = np.zeros(places, np.int64), np.full(places, -1, np.int32)
        tokens[place], owners[place] = np.arange(layout.tokens), owner
        positions = None
        if self._tables:
            positions = np.zeros(places, np.int32)
            positions[place] = layout.positions
        bins = [made for pack in packs for made in self._bins(*pack, tokens, owners, positions)]
        padding = places - layout.tokens
        # A text alone may lie in its only bin as it lies in the hidden states.
        if layout.rows == 1 and places == lines:
            bins[0].tokens = None
            return Binned(bins, None, padding)
        return Binned(bins, torch.from_numpy(back), padding)

    def _alone(self, tokens: int, lines: int) -> Binned:
        """A short text alone: its only bin is as wide as the hidden states have lines."""
        assert self._ends is not None
        mask = None if tokens == lines else self._ends[_ALONE - tokens : _ALONE - tokens + lines].view(1, 1, 1, lines)
        return Binned([Bins(1, lines, None, {False: mask}, {})], None, lines - tokens)

    def _bins(
        self, first: int, count: int, width: int, tokens: Index, owners: Int32, positions: Int32 | None
    ) -> list[Bins]:
        """Bins of one width, from place ``first`` on, in as many pieces as their scores need."""
        window = self.a.rotary.local_window if self.a.rotary else None
        some = min(count, max(1, _SCORES // (self.a.attention_heads * width**2)))
        found = []
        for begin in range(first, first + count * width, some * width):
            here = slice(begin, min(begin + some * width, first + count * width))
            mine = owners[here].reshape(-1, width)
            masks = {False: self._mask(attention_bias(mine, by_distance=self._by_distance))}
            if window is not None:
                masks[True] = self._mask(attention_bias(mine, window=window))
            angles = {}
            if positions is not None:
                at = torch.from_numpy(positions[here]).view(-1, 1, width)
                angles = {local: (cos[at], sin[at]) for local, (cos, sin) in self._tables.items()}
            found.append(Bins(len(mine), width, torch.from_numpy(tokens[here]), masks, angles))
        return found

    def _mask(self, bias: Array | None) -> torch.Tensor | None:
        return None if bias is None else torch.from_numpy(bias).to(self._dtype)

    def __call__(self, qkv: torch.Tensor, place: Binned, *, local: bool) -> torch.Tensor:
        """qkv: [lines, 3 * hidden] -> [lines, hidden], of which those of tokens mean anything."""
        a = self.a
        if len(place.bins) == 1:
            whole = self._mix(qkv, place.bins[0], local).transpose(1, 2).reshape(-1, a.hidden_size)
            return whole if place.back is None else whole.index_select(0, place.back)
        assert place.back is not None
        parts = [bins.count * bins.width for bins in place.bins]
        whole = torch.empty((sum(parts), a.hidden_size), dtype=self._dtype)
        for bins, lines in zip(place.bins, torch.split(whole, parts), strict=True):
            heads = lines.view(bins.count, bins.width, a.attention_heads, a.head_size)
            heads.copy_(self._mix(qkv, bins, local).transpose(1, 2))
        return whole.index_select(0, place.back)

    def _mix(self, qkv: torch.Tensor, bins: Bins, local: bool) -> torch.Tensor:
        """[bins, heads, width, head]."""
        a, count, width = self.a, bins.count, bins.width
        here = qkv if bins.tokens is None else qkv.index_select(0, bins.tokens)
        heads = here.view(count, width, 3, a.attention_heads, a.head_size).permute(2, 0, 3, 1, 4)
        mask = bins.masks[local]
        if width > _FUSED or (count == 1 and width <= self._fused_up_to):
            q, k, v = heads.to(self._dtype).unbind()
            if bins.angles:
                q, k = rotate(q, *bins.angles[local]), rotate(k, *bins.angles[local])
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=1.0)
        q, k, v = heads.contiguous().to(self._dtype).unbind()
        if bins.angles:
            q, k = rotate(q, *bins.angles[local]), rotate(k, *bins.angles[local])
        # As three dimensions: of four, torch lays the keys out once more.
        flat = (count * a.attention_heads, width, a.head_size)
        scores = torch.bmm(q.view(flat), k.view(flat).transpose(1, 2)).view(*heads.shape[1:4], width)
        if mask is not None:
            scores += mask
        shares = scores.softmax(-1).view(*flat[:2], width)
        return torch.bmm(shares, v.view(flat)).view(heads.shape[1:])


def pack(lengths: list[int]) -> tuple[list[int], list[tuple[int, int, int]], int]:
    """Rows of these lengths into bins of few widths, the longest first; shorter rows fill what wider bins leave free.

    The place where each row begins, all bins one after another; of each width the first place, bins and width; places.
    """
    begins, places = [0] * len(lengths), 0
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
            begins[row] = places + (bin_ + 1) * width - room[bin_]
            room[bin_] -= need
        if room:
            packs.append((places, bins_of(len(room)), width))
            places += packs[-1][1] * width
        waiting = left
    return begins, packs, places


def _widths(lengths: list[int]) -> list[int]:
    """Of the bins, the widest first."""
    tokens: dict[int, int] = {}
    for length in lengths:
        width = length + -length % _STEP
        tokens[width] = tokens.get(width, 0) + length
    widest = max(tokens)
    return [width for width in sorted(tokens, reverse=True) if width == widest or tokens[width] >= _FEW]
