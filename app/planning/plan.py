"""What a caller asked for, the terms it is served on, and the (layers, dim) chosen in the end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from strata.app.callers.tier import Exits
from strata.model_store.bundle.output_types import OutputType
from strata.model_store.bundle.prompts import InputType
from strata.model_store.bundle.quality import Worth


@dataclass(slots=True, frozen=True)
class Ask:
    """The caller's side: None means not said."""

    layers: int | Literal["auto"] | None = None  # exactly this depth; "auto": each text its own
    dim: int | None = None
    budget_ms: float | None = None  # from arrival to answer
    min_quality: float | None = None  # share of the model's full quality
    min_layers: int | None = None
    exits: Exits | None = None  # only these
    tier: str | None = None  # a lower tier than the key's
    space: str | None = None  # the vector space the answer must be in
    input_type: InputType | None = None  # a query or a document of a search; None: neither
    task: str | None = None  # by which quality is measured; None: the tier's, the server's, else the lowest
    output_dtype: OutputType | None = None  # type of the answer's numbers; None: float

    def deadline_s(self, usual: float | None) -> float | None:
        """From arrival to answer: the budget, else what is ``usual`` in the tier."""
        return usual if self.budget_ms is None else self.budget_ms / 1000


@dataclass(slots=True, frozen=True)
class Terms:
    """What a request may be run at: the scheduler picks one of ``exits`` for it and never another."""

    exits: tuple[int, ...]  # ascending; the last is what it gets when there is time
    dim: int
    quality: tuple[Worth | None, ...]  # what each of ``exits`` is worth at ``dim``; None: not measured
    deadline_s: float | None = None  # from arrival to answer; None: whenever its turn comes
    tier: str = "default"
    input_type: InputType | None = None
    task: str | None = None  # the one named; None: the lowest of those measured counts
    index: int | None = None  # depth of the documents that a query may be searched among; None: its own depth
    output_dtype: OutputType | None = None  # type of the answer's numbers, and what ``quality`` is of; None: float
    threshold: float | None = None  # cosine of two exits at which a text leaves by itself (`layers=auto`); None: never
    shares: tuple[float | None, ...] = field(init=False, repr=False, compare=False)  # of full quality, of each exit

    def __post_init__(self) -> None:
        found = tuple(None if worth is None else worth.share for worth in self.quality)
        object.__setattr__(self, "shares", found)


@dataclass(slots=True, frozen=True)
class Plan:
    """The exit and the vector length a request gets, one for all its texts."""

    layers: int
    dim: int
    quality: Worth | None  # None where it was not measured
    predicted_s: float  # from now to the answer


class PlanRefused(ValueError):  # noqa: N818 - reads as what happened
    """The ask cannot be met; ``field`` names what to change and the message the allowed values."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Infeasible(PlanRefused):
    """The fewest layers the terms allow take longer than the deadline, even with nothing else to do."""
