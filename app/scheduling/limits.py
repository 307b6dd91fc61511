"""Sizes that the operator may bound."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Limits:
    """Sizes of a batch and of the queue."""

    max_batch_tokens: int | None = None  # None: what suits the device
    max_batch_requests: int | None = None  # texts
    max_queue_texts: int = 8192
    max_queue_tokens: int = 524_288
