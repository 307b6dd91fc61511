"""A tier: what an operator promises a class of callers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from strata.model_store.bundle.prompts import InputType

Exits = tuple[int, ...] | Literal["shared"]  # "shared": those that may share an index with full depth


@dataclass(slots=True, frozen=True)
class Tier:
    """A deadline, floors, and a share of the engine when there is not enough of it."""

    name: str
    deadline_s: float | None = None  # from arrival to answer
    min_quality: float | None = None  # share of the model's full quality
    min_layers: int | None = None
    exits: Exits | None = None  # only these
    input_type: InputType | None = None  # of requests that say none
    task: str | None = None  # by which quality is measured, of requests that name none
    share: float = 1.0  # of the engine under overload, relative to the other tiers'
    rate: float | None = None  # texts a second of one key, sustained
    burst: float | None = None  # texts that may come at once; None: one second's worth


DEFAULT = Tier("default")
