"""What the families' attention has of its own: rotary angles, and which layers see only a window."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from strata.model_store.bundle.manifest import Rotary

Array = npt.NDArray[np.float32]


def rotary_table(rotary: Rotary, head_size: int, length: int, *, local: bool) -> tuple[Array, Array]:
    """cos and sin of RoFormer's rotary angles (arXiv 2104.09864), each [length, head_size // 2]."""
    theta = rotary.local_theta if local else rotary.global_theta
    frequency = 1.0 / theta ** (np.arange(0, head_size, 2, dtype=np.float32) / head_size)
    angle = np.arange(length, dtype=np.float32)[:, None] * frequency[None, :].astype(np.float32)
    return np.cos(angle), np.sin(angle)


def is_local(rotary: Rotary | None, index: int) -> bool:
    """Whether block ``index`` attends only within the window."""
    return rotary is not None and index % rotary.global_every != 0
