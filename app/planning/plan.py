"""What a caller asked for, and the (layers, dim) chosen for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Ask:
    """The caller's side: None means not said."""

    layers: int | None = None
    dim: int | None = None


@dataclass(slots=True, frozen=True)
class Plan:
    """The exit and the vector length a request gets, one for all its texts."""

    layers: int
    dim: int
    quality: float | None  # share of full quality in the manifest; None where it was not measured


class PlanRefused(ValueError):  # noqa: N818 - reads as what happened
    """The ask cannot be met; ``field`` names what to change and the message the allowed values."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
