"""The manifest: what a bundle says of itself, and what Strata may therefore promise about it."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, StringConstraints, model_validator

from strata.model_store.bundle.measured import Agreement, AutoExit
from strata.model_store.bundle.output_types import Int8Ranges
from strata.model_store.bundle.quality import Quality
from strata.model_store.bundle.strict import Strict

FORMAT_VERSION = 1
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$"
NAME_TOLD = (
    "must be at most 96 letters from a to z, digits, dots, hyphens and underscores, and begin with a letter or a digit"
)
MANIFEST_NAME = "manifest.json"
CARD = "README.md"
INT8_SCALES = "int8.safetensors"


# Fields and files that tell of a model but shape no vector.
_TOLD: dict[str, Any] = {
    **dict.fromkeys(("name", "quality", "agreement", "auto_exit", "int8_ranges", "int8_scales", "provenance"), True),
    "files": {CARD, INT8_SCALES},  # scales shape no vector but those that int8 is asked for
}

Family = Literal["bert", "roberta", "distilbert", "mpnet", "modernbert"]
Pooling = Literal["mean", "cls"]
Activation = Literal["gelu", "gelu_tanh", "relu"]
ExitNorm = Literal["none", "final"]
HeadQueries = Annotated[int, Field(ge=0, le=64)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Rotary(Strict):
    """Rotary positions with alternating global and local attention, as ModernBERT has them."""

    global_theta: PositiveFloat
    local_theta: PositiveFloat
    global_every: PositiveInt  # layer i attends globally when i % global_every == 0
    local_window: PositiveInt  # tokens a local layer sees, both sides together


class Architecture(Strict):
    """The shape of the encoder. Sizes in elements; ``layers`` counts transformer blocks."""

    family: Family
    layers: Annotated[int, Field(ge=1, le=256)]
    hidden_size: Annotated[int, Field(ge=8, le=16384)]
    attention_heads: PositiveInt
    intermediate_size: PositiveInt
    activation: Activation
    norm_eps: PositiveFloat
    vocab_size: Annotated[int, Field(ge=1, le=4_000_000)]
    positions: Annotated[int, Field(ge=0, le=1_000_000)] = 0  # rows of the learned position table; 0: none
    position_offset: Annotated[int, Field(ge=0, le=1024)] = (
        0  # id of the first position (RoBERTa, MPNet: padding id + 1)
    )
    relative_buckets: Annotated[int, Field(ge=0, le=1024)] = 0  # MPNet's relative attention bias; 0: none
    rotary: Rotary | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.hidden_size % self.attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of attention_heads {self.attention_heads}"
            )
        if (self.family == "modernbert") != (self.rotary is not None):
            raise ValueError("rotary belongs to modernbert, and only to it")
        if (self.family == "mpnet") != (self.relative_buckets > 0):
            raise ValueError("relative_buckets belongs to mpnet, and only to it")
        if self.rotary is None and self.positions <= self.position_offset:
            raise ValueError("positions must count the rows of the learned position table")
        return self

    @property
    def head_size(self) -> int:
        """Elements per attention head."""
        return self.hidden_size // self.attention_heads

    @property
    def pre_norm(self) -> bool:
        """Whether blocks normalise their input (and the encoder therefore has a final norm)."""
        return self.family == "modernbert"


class Provenance(Strict):
    """Where the weights come from and on what terms they may be used."""

    source: str  # the model this one was made from
    licence: str
    made_with: str  # e.g. "strata train 0.1.0"
    data: tuple[str, ...] = ()  # training data, one source and licence an entry


class Int8Scales(Strict):
    """How the scales for int8 were measured, and the worst cosine to float32 they leave, by exit, on other texts."""

    texts: str
    count: PositiveInt
    worst_cosine: dict[PositiveInt, float]
    wide: list[str] = Field(default_factory=list)  # dense layers that have no scales, and are not to run in int8


class FileRecord(Strict):
    """Size in bytes and SHA-256 of one file of the bundle."""

    size: Annotated[int, Field(ge=0)]
    sha256: Sha256


class Manifest(Strict):
    """Everything the server needs to know of a model besides its tensors.

    An exit's vector is: the first ``exit`` blocks -> final norm where ``exit_norm`` is "final" (the last exit of a
    pre-norm encoder always has it) -> pooling -> the exit's affine head, if it has one -> ``[:dim]`` -> L2 norm.

    Exit 0, for queries alone, is the embedding layer's normalised output through a head of its own.

    A head with queries has a pooling of its own: each query's mean of the row's hidden states, weighted by the softmax
    of its products with them; the affine map reads these means joined.
    """

    format_version: Literal[1] = 1
    name: Annotated[str, StringConstraints(pattern=NAME)]
    architecture: Architecture
    pooling: Pooling
    exit_norm: ExitNorm = "none"
    exits: tuple[PositiveInt, ...]  # trained exits, ascending
    dims: tuple[PositiveInt, ...]  # trained dims, ascending
    heads: tuple[NonNegativeInt, ...] = ()  # exits with a head in heads.safetensors; 0: exit 0, for queries alone
    head_queries: HeadQueries = 0  # attention-pooled vectors a head reads; 0: the pooled one
    head_size: PositiveInt | None = None  # length of a head's output where it differs from hidden_size
    max_tokens: PositiveInt  # longest input in tokens, special tokens included
    lowercase: bool = False  # words are lower-cased; special tokens that a text spells out are not
    prompts: dict[str, str] = Field(default_factory=dict)
    default_prompt: str | None = None
    quality: Quality | None = None
    agreement: Agreement | None = None
    auto_exit: AutoExit | None = None
    int8_ranges: Int8Ranges | None = None
    int8_scales: Int8Scales | None = None  # of dense layers' inputs, in int8.safetensors
    provenance: Provenance
    files: dict[str, FileRecord]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        layers = self.architecture.layers
        for field, values, limit in (
            ("exits", self.exits, layers),
            ("dims", self.dims, self.full_dim),
            ("heads", self.heads, layers),
        ):
            if list(values) != sorted(set(values)) or any(v > limit for v in values):
                raise ValueError(f"{field} must be ascending, without repeats, and at most {limit}")
        if not self.exits or self.exits[-1] != layers:
            raise ValueError(f"exits must end with the last layer, {layers}")
        if not self.dims or self.dims[-1] != self.full_dim:
            raise ValueError(f"dims must end with the full length, {self.full_dim}")
        if self.head_size is not None and tuple(e for e in self.heads if e) != self.exits:
            raise ValueError("head_size needs a head at every exit: all exits have vectors of one length")
        if self.head_queries and not self.heads:
            raise ValueError("head_queries needs heads")
        if self.default_prompt is not None and self.default_prompt not in self.prompts:
            raise ValueError(f"default_prompt {self.default_prompt!r} is not among the prompts {sorted(self.prompts)}")
        if self.exit_norm == "final" and not self.architecture.pre_norm:
            raise ValueError(
                f"exit_norm 'final' needs a pre-norm encoder; {self.architecture.family} has no final norm"
            )
        rows = self.architecture.positions - self.architecture.position_offset
        if self.architecture.rotary is None and self.max_tokens > rows:
            raise ValueError(f"max_tokens {self.max_tokens} exceeds the {rows} positions of the encoder")
        for name in self.files:
            check_file_name(name)
        for field, measured in (("agreement", self.agreement), ("auto_exit", self.auto_exit)):
            if measured and (not set(measured.exits) <= set(self.exits) or measured.exits[-1] != layers):
                raise ValueError(f"{field}.exits must be among the exits {self.exits}, the last layer included")
        return self

    @property
    def full_dim(self) -> int:
        """Length of an uncut vector."""
        return self.head_size or self.architecture.hidden_size

    @property
    def query_exits(self) -> tuple[int, ...]:
        """Exits that queries may stop at: also the embedding layer alone, 0, where it has a head of its own."""
        return (0, *self.exits) if 0 in self.heads else self.exits

    @property
    def elastic(self) -> bool:
        """Whether any exit before the last layer is trained."""
        return len(self.exits) > 1

    @property
    def sharing(self) -> tuple[int, ...]:
        """Exits whose full-length vectors may share one index, the last one included; it alone if not measured."""
        return self.sharing_at(self.full_dim)

    def sharing_at(self, dim: int) -> tuple[int, ...]:
        """Likewise for vectors cut to ``dim``, where shorter ones may agree less."""
        alone = (self.architecture.layers,)
        return self.agreement.sharing.get(dim, alone) if self.agreement else alone

    @property
    def revision(self) -> str:
        """12 hex digits that change with any file or fact that shapes the vectors, and not by measuring or renaming."""
        facts = self.model_dump_json(exclude=_TOLD)
        return hashlib.sha256(facts.encode()).hexdigest()[:12]


def check_file_name(name: str) -> None:
    """Refuse anything but a plain relative path inside the bundle. Raises ValueError."""
    path = PurePosixPath(name)
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_./-]*", name) or ".." in path.parts or str(path) != name:
        raise ValueError(f"file name {name!r} is not a plain path inside the bundle")
