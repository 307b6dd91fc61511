"""How an exit's vector is made, as the manifest says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from strata.model_store.bundle.manifest import Manifest


@dataclass(slots=True, frozen=True)
class ExitForm:
    """What happens between the last block of an exit and its head."""

    final_norm: bool  # the encoder's final norm comes first
    pooling: Literal["mean", "cls", "queries"]


def exit_form(manifest: Manifest, layers: int) -> ExitForm:
    """The form of the exit after ``layers`` blocks (0: of the embedding layer); a head with queries pools by itself."""
    last = layers == manifest.architecture.layers
    norm = manifest.architecture.pre_norm and (last or (layers > 0 and manifest.exit_norm == "final"))
    queries = bool(manifest.head_queries) and layers in manifest.heads
    return ExitForm(norm, "queries" if queries else manifest.pooling)
