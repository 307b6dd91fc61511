"""``strata profile BUNDLE``: measure, then write or compare."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from strata import terminal
from strata.app.engine.options import EngineOptions
from strata.loadtest.profile.auto_time import judged, measure_saving
from strata.loadtest.profile.bundle_quality import Measured, measure_bundle
from strata.loadtest.profile.latency import measure_latency
from strata.loadtest.profile.tables import show_agreement, show_latency
from strata.model_store.bundle.bundle import Bundle
from strata.model_store.bundle.latency import LatencyProfile, cache_folder
from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.output_types import Int8Ranges
from strata.model_store.bundle.registry import find
from strata.model_store.encoding.quiet import no_other_bars
from strata.model_store.encoding.reference import ReferenceEncoder
from strata.model_store.profiling.agreement import measure_agreement
from strata.model_store.profiling.auto_exit import calibrate
from strata.model_store.profiling.benchmarks import Benchmarks
from strata.model_store.profiling.comparison import compare_agreement, compare_references, compare_sets, other_sets
from strata.model_store.profiling.output_types import calibrated
from strata.model_store.profiling.picture import draw
from strata.model_store.profiling.texts import read_texts
from strata.model_store.profiling.write_measured import write_measured


def profile_bundle(args: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Measure what the options leave in; the status, and what was measured and the tables now say, as data.

    Status 1 where ``--check`` finds a figure not reproduced, or nothing to compare.
    """
    no_other_bars()
    benchmarks = Benchmarks.read(args)  # a fault in a file is told before minutes are spent
    bundle = Bundle.open(find(args.model))
    old, progress = bundle.manifest, not args.quiet
    print(f"{old.name}, revision {old.revision}, at {bundle.path}")

    latency = None
    if min(args.lengths) > old.max_tokens:
        raise ValueError(f"--lengths {min(args.lengths)}: this model reads {old.max_tokens} tokens")
    if not args.no_latency:
        options = EngineOptions(args.backend, args.dtype, args.device)
        latency = asyncio.run(measure_latency(bundle, options, args.batches, args.lengths, progress))
        show_latency(latency)

    ranges = old.int8_ranges if args.check else _ranges(args, bundle)
    measured = measure_bundle(args, bundle, old.model_copy(update={"int8_ranges": ranges}), benchmarks)
    manifest = measured.manifest
    if not args.no_agreement and old.elastic:
        manifest = _agreement(args, bundle, manifest, latency, progress)

    failed = False
    if args.check:
        failed = _failed(measured, old, manifest)
    else:
        if manifest != old:
            write_measured(bundle.path, manifest)
            print(f"written: {bundle.path}")
            _tell_gone(old, manifest)
        if latency:
            print(f"written: {latency.save()}")
    picture = args.picture or cache_folder() / f"{old.name}-{old.revision}.png"
    if (args.picture or not args.check) and draw(picture, f"{old.name}, revision {old.revision}", manifest, latency):
        print(f"drawn: {picture}")
    found = manifest.model_dump(mode="json", include={"name", "quality", "agreement", "auto_exit"})
    timings = latency.model_dump(mode="json") if latency else None
    return int(failed), {**found, "revision": old.revision, "folder": str(bundle.path), "latency": timings}


def _tell_gone(old: Manifest, new: Manifest) -> None:
    """Say which sets the manifest has no longer, since one table has shares of one model in one precision."""
    if old.quality and new.quality and (gone := [name for name in old.quality.sets if name not in new.quality.sets]):
        print(
            f"no longer in it: {', '.join(gone)}, as shares of {old.quality.reference} in {old.quality.dtype}; measure "
            f"them again to have them as shares of {new.quality.reference} in {new.quality.dtype}"
        )


def _ranges(args: argparse.Namespace, bundle: Bundle) -> Int8Ranges:
    """Of int8, at every exit there is."""
    texts, manifest, encoder = read_texts(args.text, args.texts), bundle.manifest, ReferenceEncoder(bundle.path)
    lines = [encoder.prompt + line for line in texts.lines]
    found = calibrated(
        encoder.encode(lines, manifest.query_exits, None if args.quiet else "int8"), manifest.dims, texts.name
    )
    print(f"int8 ranges of {found.count} texts at full length:", end="")
    print("".join(f"  {exit}: {row[manifest.full_dim]:.4f}" for exit, row in found.ranges.items()))
    return found


def _agreement(
    args: argparse.Namespace, bundle: Bundle, manifest: Manifest, latency: LatencyProfile | None, progress: bool
) -> Manifest:
    """The manifest with agreement and per-text exit, both of the same texts."""
    texts = read_texts(args.text, args.texts)
    encoder = ReferenceEncoder(bundle.path)
    lines = [encoder.prompt + line for line in texts.lines]
    vectors = encoder.encode(lines, manifest.exits, "agreement" if progress else None)
    agreement = measure_agreement(vectors, manifest.dims, texts.name)
    show_agreement(agreement)
    auto = calibrate(vectors, texts.name)
    if auto is None:
        return manifest.model_copy(update={"agreement": agreement})
    kind = (latency.backend, latency.dtype, latency.device) if latency else (args.backend, args.dtype, args.device)
    savings = asyncio.run(measure_saving(bundle, auto, texts.lines, EngineOptions(*kind), progress))
    auto = judged(auto, savings)
    terminal.show(
        f"per-text exit, tested at {' '.join(map(str, auto.exits))} with threshold {auto.threshold}: mean depth "
        f"{auto.mean_depth} of {manifest.exits[-1]}, {auto.faithful:.1%} of {auto.count} texts faithful"
    )
    for saving in savings:
        terminal.show(f"  batch {saving.batch}: mean depth {saving.mean_depth:.2f}, time saved {saving.saved:.1%}")
    terminal.show(f"  layers=auto is refused: {auto.refused}" if auto.refused else "  layers=auto is offered")
    return manifest.model_copy(update={"agreement": agreement, "auto_exit": auto})


def _failed(measured: Measured, old: Manifest, new: Manifest) -> bool:
    """Print how far what was measured is from what is written."""
    found, strange = [], []
    if old.quality:
        for (dtype, kind), sets in measured.found.items():
            if (dtype, kind) == (old.quality.dtype, "float"):
                found += compare_sets(old.quality.sets, sets)
                strange += other_sets(old.quality, sets)
            for variant in old.quality.variants:
                if (variant.dtype, variant.output_type) == (dtype, kind):
                    found += compare_sets(variant.sets, sets, f", {dtype}" if kind == "float" else f", {kind}")
        if measured.references and measured.recomputed:
            found += compare_references(old.quality, measured.references)
    if old.agreement and new.agreement and new.agreement is not old.agreement:
        found += compare_agreement(old.agreement, new.agreement)
    for difference in found:
        print(difference)
    for name in strange:
        print(f"{name}: OTHER TEXTS or judgements than those the manifest's figures are of")
    if not found:
        print("nothing to compare: the bundle has no table of these sets or texts")
    return not found or bool(strange) or not all(difference.reproduced for difference in found)
