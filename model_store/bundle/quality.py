"""Quality as it was measured: labelled sets by task, and the share of the source model's score that is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, StringConstraints, model_validator

from strata.model_store.bundle.strict import Strict

SIMILARITY, SEARCH = "similarity", "search"

TASK = r"^[a-z][a-z0-9_-]{0,31}$"
TASK_TOLD = "a task is 1 to 32 lower-case letters, digits, _ and -, the first a letter"
SET_NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$"
SET_NAME_TOLD = "a set's name is 1 to 64 letters of ASCII, digits, spaces and . _ -, the first a letter or digit"

Task = Annotated[str, StringConstraints(pattern=TASK)]
SetName = Annotated[str, StringConstraints(pattern=SET_NAME)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Scores = dict[NonNegativeInt, dict[PositiveInt, float]]  # scores[exit][dim]
Dtype = Literal["float32", "bfloat16", "float16", "int8"]
# What a figure is of: both sides of a set at the exit, or its queries at the exit and its documents at full depth.
Side = Literal["alike", "queries"]


def at_full_depth(name: str) -> str:
    """What a manifest calls the scores of a model that stand for 1.0."""
    return f"{name} at full depth"


class Scored(Strict):
    """Scores of one set. ``queries``: of queries at the exit on documents at full depth, where a set has the two."""

    scores: Scores
    queries: Scores = Field(default_factory=dict)

    def of(self, side: Side) -> Scores:
        """The table of a side."""
        return self.scores if side == "alike" else self.queries


class MeasuredSet(Scored):
    """One labelled set: what it is, the source model's score on it, and this model's."""

    task: Task
    metric: str  # e.g. "nDCG@10 x 100"
    count: PositiveInt  # pairs, or queries
    documents: PositiveInt | None = None
    sha256: Sha256  # of its texts and judgements
    reference_score: PositiveFloat  # of the source model at full depth and length, in float32
    decides: bool = True  # False: told, but part of no share and no choice, as a test split is


class Variant(Strict):
    """Scores on the same sets at another dtype, or in another type of output."""

    dtype: Dtype
    output_type: str = "float"
    sets: dict[SetName, Scored]


Beaten = dict[Task, dict[PositiveInt, dict[PositiveInt, NonNegativeInt]]]  # task, dim, exit -> the shallower exit


class ToldApart(Strict):
    """Exits that a shallower one beats by more than the sets can tell apart, on the mean share of the task.

    A paired bootstrap: pairs or queries of every set are drawn anew ``samples`` times, and the shallower exit is ahead
    in at least ``confidence`` of the draws.
    """

    samples: PositiveInt
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    alike: Beaten
    queries: Beaten

    def beaten(self, task: str, side: Side, dim: int) -> Mapping[int, int]:
        """Exit -> the shallower exit that beats it."""
        table = self.alike if side == "alike" else self.queries
        return table.get(task, {}).get(dim, {})


@dataclass(slots=True, frozen=True)
class Worth:
    """What an exit and dim keep of the source model's score: the mean share over a task's sets, and the least."""

    share: float
    task: str
    worst: float
    worst_set: str


class Quality(Strict):
    """All that was measured of a model. Shares are of the source model's own score on the same set."""

    reference: str  # the source model, e.g. "thenlper/gte-small at full depth"
    dtype: Dtype = "float32"
    sets: dict[SetName, MeasuredSet]
    told_apart: ToldApart | None = None
    variants: tuple[Variant, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.sets:
            raise ValueError("quality.sets must name a set; leave quality out where nothing was measured")
        kinds = [(variant.dtype, variant.output_type) for variant in self.variants]
        if len(set(kinds)) < len(kinds) or (self.dtype, "float") in kinds:
            raise ValueError("quality.variants must each be of a dtype and output type of their own")
        for variant in self.variants:
            if unknown := sorted(set(variant.sets) - set(self.sets)):
                raise ValueError(f"quality.variants names a set that quality.sets has not: {unknown[0]}")
        return self

    def tasks(self, side: Side = "alike", dtype: str | None = None, output_type: str = "float") -> tuple[str, ...]:
        """The tasks with figures of a side on every one of their sets, in the order they were measured in."""
        tables = self._tables(dtype or self.dtype, output_type)
        counting = {name: each for name, each in self.sets.items() if each.decides and each.of(side)}
        lacking = {each.task for name, each in counting.items() if name not in tables or not tables[name].of(side)}
        return tuple(dict.fromkeys(each.task for each in counting.values() if each.task not in lacking))

    def worth(
        self,
        task: str,
        layers: int,
        dim: int,
        side: Side = "alike",
        dtype: str | None = None,
        output_type: str = "float",
    ) -> Worth | None:
        """The figure of a task at (layers, dim); None where one of the task's sets was not measured there."""
        tables = self._tables(dtype or self.dtype, output_type)
        shares: dict[str, float] = {}
        for name, each in self.sets.items():
            if each.task != task or not each.decides or not each.of(side):
                continue
            score = tables[name].of(side).get(layers, {}).get(dim) if name in tables else None
            if score is None:
                return None
            shares[name] = score / each.reference_score
        if not shares:
            return None
        worst = min(shares, key=lambda name: shares[name])
        return Worth(sum(shares.values()) / len(shares), task, shares[worst], worst)

    def _tables(self, dtype: str, output_type: str) -> Mapping[str, Scored]:
        if (dtype, output_type) == (self.dtype, "float"):
            return self.sets
        kind = (dtype, output_type)
        return next((v.sets for v in self.variants if (v.dtype, v.output_type) == kind), {})
