"""How an exit's vector is made, as the manifest says, and cut as the row says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from strata.app.engine.flat import Int32
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


def finish(vectors: npt.NDArray[np.float32], dims: Int32, normalize: npt.NDArray[np.bool_]) -> None:
    """L2-normalise the first ``dims`` elements of each vector that asks for it, in place. vectors: [rows, full_dim].

    A vector of which one of these elements is NaN or infinity begins with NaN.
    """
    dim = int(dims[0])
    if normalize.all() and (len(dims) == 1 or (dims == dim).all()):
        heads = vectors[:, :dim]
        heads /= norms(heads)
    else:
        for dim in np.unique(dims).tolist():
            lines = np.flatnonzero((dims == dim) & normalize)
            heads = vectors[lines, :dim]
            vectors[lines, :dim] = heads / norms(heads)
    if not np.isfinite(np.vdot(vectors, vectors)):  # a hint: elements past the dim count, too, and large ones
        for vector, dim in zip(vectors, dims.tolist(), strict=True):
            if not np.isfinite(vector[:dim]).all():
                vector[0] = np.nan


def norms(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """L2 norms, [rows, 1], none of them 0."""
    found: npt.NDArray[np.float32] = np.sqrt(np.einsum("rd,rd->r", vectors, vectors))
    return np.maximum(found, np.float32(1e-12))[:, None]
