"""A bundle's quality on every set that was named, in every precision."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from strata.loadtest.profile.engine_encoder import EngineEncoder
from strata.loadtest.profile.tables import show_cost, show_quality
from strata.model_store.bundle.bundle import Bundle
from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.output_types import OutputType
from strata.model_store.bundle.quality import Dtype
from strata.model_store.encoding.precision import pick_device
from strata.model_store.profiling.benchmarks import Benchmarks
from strata.model_store.profiling.encoders import ModelEncoder
from strata.model_store.profiling.progress import Progress
from strata.model_store.profiling.quality import measure_output_types, with_quality, with_variant
from strata.model_store.profiling.references import References, SourceModel, known_references
from strata.model_store.profiling.set_result import SetResult

_PRECISIONS: Mapping[Dtype, str] = {"float32": "fp32", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Measured:
    """What was found, by precision and type of output, and the manifest with it. ``recomputed``: the references were
    worked out anew."""

    manifest: Manifest
    found: Mapping[tuple[Dtype, OutputType], list[SetResult]] = field(default_factory=dict)
    references: References | None = None
    recomputed: bool = False


def measure_bundle(args: argparse.Namespace, bundle: Bundle, manifest: Manifest, benchmarks: Benchmarks) -> Measured:
    """Measure ``--sts`` and ``--beir`` at every exit and dim the model was trained for; ``manifest`` has its ranges."""
    if not benchmarks:
        return Measured(manifest)
    device = pick_device() if args.device == "auto" else torch.device(args.device)
    precisions: tuple[Dtype, ...] = args.precision
    if precisions == ("int8",):
        return _beside(args, bundle, manifest, benchmarks)
    main = precisions[0]
    source = missing = None
    if args.base:
        name, kept = manifest.provenance.source, not args.check
        source = SourceModel(args.base, name, device, _PRECISIONS[main], measured=manifest.name, remembered=kept)
        missing = source.missing(benchmarks)
    total = len(precisions) * benchmarks.characters + (missing.characters if missing else 0)
    found: dict[Dtype, list[SetResult]] = {}
    typed: dict[OutputType, list[SetResult]] = {}
    with Progress("quality", total, args.quiet) as bar:
        for precision in precisions:
            encoder = (
                EngineEncoder(bundle, precision, bar.told)
                if precision == "int8"
                else ModelEncoder(bundle.path, device, _PRECISIONS[precision], bar.told)
            )
            kinds: tuple[OutputType, ...] = ("float", *(args.output_types if precision == main else ()))
            by_type = measure_output_types(encoder, benchmarks, manifest, kinds)
            found[precision] = by_type.pop("float")
            if precision == main:
                typed = by_type
        references = source.measure(benchmarks, bar.told) if source else known_references(manifest, found[main])
    manifest = with_quality(manifest, found[main], references, main)
    assert manifest.quality is not None
    quality = manifest.quality
    for precision in precisions[1:]:
        quality = with_variant(quality, found[precision], precision)
    for kind, each in typed.items():
        quality = with_variant(quality, each, main, kind)
    show_quality(manifest, quality)
    for kind in typed:
        show_cost(manifest, quality, kind)
    by_kind: dict[tuple[Dtype, OutputType], list[SetResult]] = {(dtype, "float"): each for dtype, each in found.items()}
    by_kind |= {(main, kind): each for kind, each in typed.items()}
    return Measured(manifest.model_copy(update={"quality": quality}), by_kind, references, bool(source and args.check))


def _beside(args: argparse.Namespace, bundle: Bundle, manifest: Manifest, benchmarks: Benchmarks) -> Measured:
    """int8 alone: figures of its own beside those that the bundle has. Raises ValueError where it has none."""
    if manifest.quality is None:
        raise ValueError(f"{bundle.path}: has no figures yet; measure float32 or bfloat16 first")
    with Progress("quality", benchmarks.characters, args.quiet) as bar:
        found = measure_output_types(EngineEncoder(bundle, "int8", bar.told), benchmarks, manifest, ("float",))["float"]
    quality = with_variant(manifest.quality, found, "int8")
    show_quality(manifest, quality, "int8")
    return Measured(manifest.model_copy(update={"quality": quality}), {("int8", "float"): found})
