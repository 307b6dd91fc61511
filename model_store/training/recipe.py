"""The recipe: every choice that shapes a training run, in one record that travels with the model."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

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

from strata.model_store.bundle.manifest import ExitNorm, HeadQueries

# What a GPU needs to be filled, instead of the defaults: these suit a few CPU cores.
ON_A_GPU: dict[str, Any] = {"step_tokens": 65536, "bank": 8192, "learning_rate": 4e-4, "ridge_texts": 4096}
_ENDLESS = 1 << 32

Share = Annotated[float, Field(ge=0, le=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Recipe(BaseModel):
    """Options of a run. Lengths of text in characters where named so, in tokens otherwise."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    # What is trained.
    exits: tuple[NonNegativeInt, ...] = ()  # empty: every layer and, where there are heads, 0, the embeddings alone
    dims: tuple[PositiveInt, ...] = (32, 64, 128, 256)  # below the full length, which is always trained
    exit_norm: ExitNorm = "none"
    heads: bool = True  # a head per exit but the last, which reads that exit's hidden states
    head_queries: HeadQueries = 3  # attention-pooled vectors that a head reads; 0: the model's own pooled vector
    ridge_texts: NonNegativeInt = 1536  # texts the heads are first fitted on; 0: they start at identity

    # What goes into a step: texts, drawn until they have this many tokens.
    step_tokens: PositiveInt = 4096
    passages: NonNegativeFloat = 0.3  # weight of drawing a passage, with one of its sentences as its query
    short_texts: NonNegativeFloat = 0.4  # weight of drawing a short text
    groups: NonNegativeFloat = 0.3  # weight of drawing a pair or triplet
    max_tokens: PositiveInt = 512
    passage_chars: PositiveInt = 350  # a line this long is a passage
    joined_share: Share = 0.05  # passages made by joining neighbouring short lines
    titled_share: Share = 0.3  # pairs drawn as one passage, title and all, with one of its sentences as its query
    few_sources: Share = 0.5  # draws that keep to a few of the sources, where texts are hard to tell from one another

    # The objective, a weighted sum, averaged over exits; see objective.py.
    cosine: NonNegativeFloat = 4.0
    centred_cosine: NonNegativeFloat = 8.0
    neighbours: NonNegativeFloat = 1.0  # each KL term
    temperature: PositiveFloat = 0.025
    bank: NonNegativeInt = 1024  # earlier texts that a text's neighbours are sought among, beside the step's own
    last_exit: PositiveFloat = 10.0  # weight of the last exit, the others' being 1: full depth must stay itself

    # The optimizer.
    learning_rate: PositiveFloat = 2.5e-4
    matrix_rate: PositiveFloat = 2.0  # times learning_rate: rate of the blocks' matrices, which Muon moves
    head_rate: PositiveFloat = 3.0  # times learning_rate: rate of the heads
    query_rate: PositiveFloat = 8.0  # times learning_rate: rate of the heads' queries
    betas: tuple[Beta, Beta] = (0.9, 0.98)
    weight_decay: NonNegativeFloat = 0.01
    clip: PositiveFloat = 1.0
    warmup: Share = 0.03  # share of the run
    steps: PositiveInt | None = None  # at most; None: as many as the minutes allow, or 1,500
    minutes: PositiveFloat | None = None  # the run and its schedule end here if the steps are not done before
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0  # as large as torch's own may be

    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @property
    def most_steps(self) -> int:
        """Steps after which the run ends, whatever the time."""
        return self.steps or (_ENDLESS if self.minutes else 1500)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.passages + self.short_texts + self.groups <= 0:
            raise ValueError("one of passages, short_texts and groups must be more than nothing")
        for name, values in (("exits", self.exits), ("dims", self.dims)):
            if list(values) != sorted(set(values)):
                raise ValueError(f"{name} must be ascending and without repeats")
        return self
