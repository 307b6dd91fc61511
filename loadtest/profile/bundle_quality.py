"""A bundle's quality on every set that was named, in every precision."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from strata.model_store.bundle.bundle import Bundle
from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.quality import Dtype, Quality
from strata.model_store.encoding.precision import pick_device
from strata.model_store.profiling.benchmarks import Benchmarks
from strata.model_store.profiling.encoders import ModelEncoder
from strata.model_store.profiling.found import Found
from strata.model_store.profiling.progress import Progress
from strata.model_store.profiling.quality import measure_quality, with_quality, with_variant
from strata.model_store.profiling.references import References, SourceModel, known_references

_PRECISIONS: Mapping[Dtype, str] = {"float32": "fp32", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Measured:
    """What was found, by precision, and the manifest with it. ``recomputed``: the references were worked out anew."""

    manifest: Manifest
    found: Mapping[Dtype, list[Found]] = field(default_factory=dict)
    references: References | None = None
    recomputed: bool = False


def measure_bundle(args: argparse.Namespace, bundle: Bundle) -> Measured:
    """Measure ``--sts`` and ``--beir`` at every exit and dim the model was trained for."""
    benchmarks, manifest = Benchmarks.read(args), bundle.manifest
    if not benchmarks:
        return Measured(manifest)
    device = pick_device() if args.device == "auto" else torch.device(args.device)
    precisions: tuple[Dtype, ...] = args.precision
    main = precisions[0]
    source = missing = None
    if args.base:
        name = f"{manifest.provenance.source} at full depth"
        source = SourceModel(args.base, name, device, _PRECISIONS[main], remembered=not args.check)
        missing = source.missing(benchmarks)
    total = len(precisions) * benchmarks.characters + (missing.characters if missing else 0)
    found: dict[Dtype, list[Found]] = {}
    with Progress("quality", total, args.quiet) as bar:
        for precision in precisions:
            encoder = ModelEncoder(bundle.path, device, _PRECISIONS[precision], bar.told)
            found[precision] = measure_quality(encoder, benchmarks, manifest.exits, manifest.dims, manifest.query_exits)
        references = source.measure(benchmarks, bar.told) if source else known_references(manifest, found[main])
    manifest = with_quality(manifest, found[main], references, main)
    assert manifest.quality is not None
    quality = manifest.quality
    for precision in precisions[1:]:
        quality = with_variant(quality, found[precision], precision)
    _show(manifest, quality)
    return Measured(manifest.model_copy(update={"quality": quality}), found, references, bool(source and args.check))


def _show(manifest: Manifest, quality: Quality) -> None:
    print(f"shares of {quality.reference}, in {quality.dtype}, by dims:")
    for side in ("alike", "queries"):
        for task in quality.tasks(side):
            print(f"{task}{', queries on full-depth documents' if side == 'queries' else ''}:")
            for layers in manifest.query_exits:
                row = (quality.worth(task, layers, dim, side) for dim in manifest.dims)
                told = ", ".join(f"{w.share:.3f} (worst {w.worst:.3f} {w.worst_set})" for w in row if w)
                if told:
                    print(f"  {layers:3} layers: {told}")
