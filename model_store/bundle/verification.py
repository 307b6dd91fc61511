"""A bundle looked at whole: what opening checks, and what takes too long to check at every start."""

from __future__ import annotations

from pathlib import Path

from strata.model_store.bundle.bundle import Bundle, BundleError, check_vocabulary, read_tokenizer
from strata.model_store.bundle.families import encoder_tensors, head_tensors
from strata.model_store.bundle.finite import check_finite
from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.watch import Watch, unwatched


def verify(path: Path, watch: Watch = unwatched) -> Manifest:
    """Check checksums, shapes, finite weights and the tokenizer. Raises BundleError naming the file and the reason."""
    bundle = Bundle.open(path, watch=watch)
    manifest = bundle.manifest
    try:
        for spec in encoder_tensors(manifest.architecture):
            check_finite(bundle.weights, spec.name)
            watch(bundle.weights.stored(spec.name)[0].nbytes)
        if heads := bundle.heads:
            for spec in (s for layers in manifest.heads for s in head_tensors(manifest, layers).values()):
                check_finite(heads, spec.name)
    except ValueError as error:
        raise BundleError(f"{path}: {error}") from error
    check_vocabulary(path, read_tokenizer(path), manifest)
    return manifest
