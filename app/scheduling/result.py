"""The scheduler's answer to one request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(slots=True)
class Answer:
    """Vectors of one request, and what the engine says it ran."""

    vectors: npt.NDArray[np.float32]  # [texts, dim]
    layers: int  # as reported by the engine; of the deepest text where each had its own
    dim: int
    tokens: int
    queue_s: float  # in which none of its texts was with the engine,
    inference_s: float  # and in which some were
    depths: tuple[int, ...]  # of each text, where each had its own; else empty
    predicted_s: float  # from arrival to answer, as foreseen when it was let in
