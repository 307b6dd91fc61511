"""The recipe: every choice that shapes a training run, in one record that travels with the model."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from strata.model_store.bundle.manifest import ExitNorm

Share = Annotated[float, Field(ge=0, le=1)]


class Recipe(BaseModel):
    """Options of a run. Lengths of text in characters where named so, in tokens otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # What is trained.
    exits: tuple[PositiveInt, ...] = ()  # empty: every layer
    dims: tuple[PositiveInt, ...] = (32, 64, 128, 256)  # below the full length, which is always trained
    exit_norm: ExitNorm = "none"
    heads: bool = True  # a head per exit but the last, which reads that exit's hidden states
    head_queries: NonNegativeInt = 8  # attention-pooled vectors that a head reads; 0: the model's own pooled vector
    ridge_texts: NonNegativeInt = 1536  # texts the heads are first fitted on; 0: they start at identity

    # How much of what goes into a step.
    passages: NonNegativeInt = 8  # long passages; each brings one of its sentences as its query
    short_texts: NonNegativeInt = 24
    groups: NonNegativeInt = 6  # pairs and triplets
    max_tokens: PositiveInt = 224
    passage_chars: PositiveInt = 350  # a line this long is a passage
    joined_share: Share = 0.33  # passages made by joining neighbouring short lines, where words are rare and many

    half_depth: Share = 0.5  # steps that run, and teach, only the lower half of the layers, which have most to learn

    # The objective, a weighted sum, averaged over exits; see objective.py.
    cosine: NonNegativeFloat = 5.0
    centred_cosine: NonNegativeFloat = 2.0
    neighbours: NonNegativeFloat = 1.0  # each KL term
    temperature: PositiveFloat = 0.04
    bank: NonNegativeInt = 1024  # earlier teacher vectors that exits are compared with
    last_exit: PositiveFloat = 3.0  # weight of the last exit, the others' being 1: full depth must stay itself

    # The optimizer.
    learning_rate: PositiveFloat = 2.5e-4
    matrix_rate: PositiveFloat = 2.0  # of the blocks' matrices, which Muon moves, as a multiple
    head_rate: PositiveFloat = 3.0  # of the heads, likewise
    query_rate: PositiveFloat = 8.0  # of their queries, likewise
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: NonNegativeFloat = 0.01
    clip: PositiveFloat = 1.0
    warmup: Share = 0.05  # share of the run
    steps: PositiveInt = 1500
    minutes: PositiveFloat | None = None  # the run and its schedule end here if the steps are not done before
    seed: NonNegativeInt = 0

    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.passages + self.short_texts + self.groups < 2:
            raise ValueError("a step needs at least two texts: the objective compares them with one another")
        for name, values in (("exits", self.exits), ("dims", self.dims)):
            if list(values) != sorted(set(values)):
                raise ValueError(f"{name} must be ascending and without repeats")
        return self
