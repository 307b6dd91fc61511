"""What the person importing a model says of it, where its files are silent or wrong."""

from __future__ import annotations

from dataclasses import dataclass

from strata.model_store.bundle.manifest import ExitNorm, Pooling


@dataclass(frozen=True)
class Overrides:
    """Facts that win over what the folder says; None leaves the folder's word, or the default, standing."""

    name: str | None = None  # the bundle's name; default: the folder's
    pooling: Pooling | None = None
    exit_norm: ExitNorm | None = None
    exits: tuple[int, ...] | None = None  # trained exits; full depth is always one; default: full depth alone
    dims: tuple[int, ...] | None = None  # trained dims; full length is always one; default: matryoshka_dimensions
    max_tokens: int | None = None  # longest input in tokens, special tokens included
    licence: str | None = None
    source: str | None = None  # where the model comes from, e.g. "mixedbread-ai/mxbai-embed-2d-large-v1"
