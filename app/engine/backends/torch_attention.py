"""Self-attention over flat tokens in torch: rows of like length side by side, each group one padded call."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from strata.app.engine.attention import rotary_table
from strata.app.engine.flat import Layout
from strata.app.engine.weights import relative_bias
from strata.model_store.bundle.bundle import Bundle

_WASTE = 8  # a group's longest row is at most an eighth (and at least two tokens) longer than its shortest
_SCORES = 1 << 24  # of a group at most, where it must hold a bias for each


@dataclass(slots=True)
class Group:
    """Rows of like length."""

    rows: int
    width: int
    tokens: torch.Tensor  # [rows * width] token at each place; any, where there is none
    places: torch.Tensor | None  # [tokens of the group] the places that hold a token; None: all do
    masks: dict[bool, torch.Tensor | None]  # what is added to the scores, by local attention
    padding: int


class GroupedAttention:
    """For every family: bias by distance, windows and rotary positions included."""

    def __init__(self, bundle: Bundle, *, device: torch.device) -> None:
        self.a = bundle.manifest.architecture
        self._device = device
        by_distance = relative_bias(bundle)
        self._by_distance = None if by_distance is None else torch.tensor(by_distance, device=device)
        self._angles: dict[bool, tuple[torch.Tensor, torch.Tensor]] = {}
        if self.a.rotary is not None:
            for local in (False, True):
                cos, sin = rotary_table(self.a.rotary, self.a.head_size, bundle.manifest.max_tokens, local=local)
                self._angles[local] = torch.tensor(cos, device=device), torch.tensor(sin, device=device)

    def groups(self, layout: Layout) -> list[Group]:
        """The rows of a layout, longest first, cut into groups."""
        lengths = layout.lengths
        order = np.argsort(-lengths, kind="stable")
        sorted_ = lengths[order]
        found, begin = [], 0
        while begin < len(order):
            width = int(sorted_[begin])
            least = min(width - width // _WASTE, max(width - 2, 1))
            end = int(np.searchsorted(-sorted_, -least, side="right"))
            if self._by_distance is not None:
                end = min(end, begin + max(1, _SCORES // (width * width * self.a.attention_heads)))
            found.append(self._group(order[begin:end], width, layout))
            begin = end
        return found

    def _group(self, rows: np.ndarray, width: int, layout: Layout) -> Group:
        lengths = layout.lengths[rows]
        here = np.arange(width)
        held = here < lengths[:, None]
        tokens = torch.from_numpy(np.where(held, layout.starts[rows][:, None] + here, 0).reshape(-1)).to(self._device)
        even = bool(held.all())
        places = None if even else torch.from_numpy(np.flatnonzero(held)).to(self._device)
        keys = None if even else torch.from_numpy(held)[:, None, None].to(self._device)
        window = self.a.rotary.local_window if self.a.rotary else None
        masks = {False: self._mask(keys, width, None)}
        if window is not None:
            masks[True] = self._mask(keys, width, window)
        return Group(len(rows), width, tokens, places, masks, held.size - int(lengths.sum()))

    def _mask(self, keys: torch.Tensor | None, width: int, window: int | None) -> torch.Tensor | None:
        """[rows or 1, heads or 1, queries or 1, keys]: added to the scores, float32; None where nothing is."""
        place = torch.arange(width, device=self._device)
        distance = place[None, :] - place[:, None]
        seen = keys
        if window is not None and width > window // 2 + 1:
            near = distance.abs() <= window // 2
            # A query that is padding sees itself at least, so that no score is all masked.
            seen = near if keys is None else (near & keys) | (distance == 0)
        mask = None
        if seen is not None:
            mask = torch.zeros(seen.shape, device=self._device).masked_fill_(~seen, -torch.inf)
            mask = mask if mask.dim() == 4 else mask[None, None]
        if self._by_distance is not None:
            reach = self._by_distance.shape[1] // 2
            bias = self._by_distance[:, distance + reach]
            mask = bias[None] if mask is None else mask + bias
        return mask

    def __call__(self, qkv: torch.Tensor, groups: list[Group], *, local: bool) -> torch.Tensor:
        """qkv: [lines, 3 * hidden] -> [lines, hidden], of which those of tokens mean anything."""
        a = self.a
        mixed = torch.zeros((len(qkv), a.hidden_size), dtype=qkv.dtype, device=qkv.device)
        for group in groups:
            heads = qkv[group.tokens].view(group.rows, group.width, 3, a.attention_heads, a.head_size)
            q, k, v = heads.permute(2, 0, 3, 1, 4)
            if self._angles:
                cos, sin = (table[: group.width] for table in self._angles[local])
                q, k = rotate(q, cos, sin), rotate(k, cos, sin)
            mask = group.masks[local]
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask.to(q.dtype))
            flat = out.transpose(1, 2).reshape(-1, a.hidden_size)
            if group.places is None:
                mixed[group.tokens] = flat
            else:
                mixed[group.tokens[group.places]] = flat[group.places]
        return mixed


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions, half-split layout: x [..., width, head], cos and sin [width, head / 2]."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)
