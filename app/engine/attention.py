"""Who may attend to whom in a pack, and with what bias; the same for every backend."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from strata.app.engine.packing import Pack
from strata.model_store.bundle.manifest import Rotary

Array = npt.NDArray[np.float32]


def attention_bias(pack: Pack, *, window: int | None = None, by_distance: Array | None = None) -> Array | None:
    """What is added to the attention scores: [bins, 1 or heads, width, width], or None where nothing is.

    A row sees itself alone; with ``window``, only tokens at most ``window // 2`` away; ``by_distance``
    [heads, 2 * n - 1] adds a bias per head and distance (MPNet). Padding sees padding, to keep its scores finite.
    """
    if pack.one_row_a_bin and by_distance is None and (window is None or pack.width <= window // 2 + 1):
        return None
    owners = pack.owners().reshape(pack.bins, pack.width)
    seen = owners[:, :, None] == owners[:, None, :]
    # Rows lie unbroken in a bin, so distances between places are distances between positions.
    place = np.arange(pack.width, dtype=np.int32)  # of 8,192 tokens each of these squares has 64 million
    if window is not None:
        near = np.abs(place[None, :] - place[:, None]) <= window // 2
        seen &= near | (owners[:, None, :] < 0)
        del near
    bias = np.where(seen, np.float32(0), np.float32(-np.inf))[:, None]
    if by_distance is not None:
        reach = by_distance.shape[1] // 2
        bias = bias + by_distance[:, np.clip(place[None, :] - place[:, None] + reach, 0, 2 * reach)]
    return bias


def rotary_table(rotary: Rotary, head_size: int, length: int, *, local: bool) -> tuple[Array, Array]:
    """cos and sin of RoFormer's rotary angles (arXiv 2104.09864), each [length, head_size // 2]."""
    theta = rotary.local_theta if local else rotary.global_theta
    frequency = 1.0 / theta ** (np.arange(0, head_size, 2, dtype=np.float32) / head_size)
    angle = np.arange(length, dtype=np.float32)[:, None] * frequency[None, :].astype(np.float32)
    return np.cos(angle), np.sin(angle)


def is_local(rotary: Rotary | None, index: int) -> bool:
    """Whether block ``index`` attends only within the window."""
    return rotary is not None and index % rotary.global_every != 0
