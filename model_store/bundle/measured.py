"""What `strata train` and `strata profile` measure of a model and its manifest carries; none of it shapes a vector."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from strata.model_store.bundle.strict import Strict

Cosine = Annotated[float, Field(ge=-1, le=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class Bar(Strict):
    """What the agreement of two exits must reach for their vectors to be in one index."""

    mean: Cosine
    p01: Cosine


class Agreement(Strict):
    """How near the vectors of one text at two exits are, over unlabelled text.

    Cosine of the unit vectors after the last exit's mean vector was taken out of both: on encoders whose vectors
    all point one way the plain cosine is high for unrelated texts too. Matrices are [exit][exit], at full length.
    """

    texts: str  # which texts
    count: PositiveInt
    exits: tuple[PositiveInt, ...]
    mean: tuple[tuple[Cosine, ...], ...]
    p01: tuple[tuple[Cosine, ...], ...]  # the cosine that 1 % of the texts fall below
    bar: Bar
    sharing: dict[PositiveInt, tuple[PositiveInt, ...]]  # by dim: exits that all reach the bar with one another

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        size = len(self.exits)
        for field, matrix in (("mean", self.mean), ("p01", self.p01)):
            if len(matrix) != size or any(len(row) != size for row in matrix):
                raise ValueError(f"agreement.{field} must have a row and a column for each of the {size} exits")
        for dim, exits in self.sharing.items():
            if not exits or list(exits) != sorted(set(exits) & set(self.exits)) or exits[-1] != self.exits[-1]:
                raise ValueError(f"agreement.sharing at {dim} dims must be measured exits, ascending, with the last")
        return self


class AutoExit(Strict):
    """Per-text exit: a text leaves at the first of ``exits`` whose vector agrees with the one at the exit before.

    LEAP's test (arXiv 2605.01058): cosine of the two (headed, full-length) vectors >= ``threshold``. The first exit
    is only compared with; at the last a text leaves in any case. Calibrated on unlabelled text.
    """

    texts: str
    count: PositiveInt  # texts the threshold was found on, and as many others that it was tried on
    exits: tuple[PositiveInt, ...]
    threshold: Cosine
    mean_depth: PositiveFloat  # layers a text ran, on the texts it was tried on
    faithful: Share  # of those texts, the share whose vector has cosine >= 0.98 to full depth
    refused: str | None = None  # why `layers=auto` is not offered; None: it is

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(self.exits) < 2 or list(self.exits) != sorted(set(self.exits)):
            raise ValueError("auto_exit.exits must be at least two, ascending and without repeats")
        return self
