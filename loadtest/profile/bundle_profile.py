"""``strata profile BUNDLE``: measure, then write or compare."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence

from strata.app.engine.options import EngineOptions
from strata.loadtest.profile.auto_time import judged, measure_saving
from strata.loadtest.profile.latency import measure_latency
from strata.model_store.bundle.bundle import Bundle
from strata.model_store.bundle.latency import LatencyProfile, cache_folder
from strata.model_store.bundle.manifest import REPORT, Manifest
from strata.model_store.bundle.registry import find
from strata.model_store.encoding.reference import ReferenceEncoder
from strata.model_store.profiling.agreement import measure_agreement
from strata.model_store.profiling.auto_exit import calibrate
from strata.model_store.profiling.benchmarks import Benchmarks
from strata.model_store.profiling.comparison import compare_agreement, compare_reports, compare_tables
from strata.model_store.profiling.picture import draw
from strata.model_store.profiling.quality import QualityReport, measure_quality
from strata.model_store.profiling.shares import measure_original, with_tables
from strata.model_store.profiling.texts import read_texts
from strata.model_store.profiling.writing import write_measured


def profile_bundle(args: argparse.Namespace) -> int:
    """Measure what the options leave in; 1 where ``--check`` finds a figure not reproduced, or nothing to compare."""
    bundle = Bundle.open(find(args.model))
    old, progress = bundle.manifest, not args.quiet
    print(f"{old.name}, revision {old.revision}, at {bundle.path}")
    known = QualityReport.read(bundle.path / REPORT)

    latency = None
    if min(args.lengths) > old.max_tokens:
        raise ValueError(f"--lengths {min(args.lengths)}: this model reads {old.max_tokens} tokens")
    if not args.no_latency:
        options = EngineOptions(args.backend, args.dtype, args.device)
        latency = asyncio.run(measure_latency(bundle, options, args.batches, args.lengths, progress))
        _show_latency(latency)

    report, manifest = _quality(args, bundle, progress)
    if not args.no_agreement and old.elastic:
        manifest = _agreement(args, bundle, manifest, latency, progress)

    failed = False
    if args.check:
        failed = _failed(known, report, old, manifest)
    else:
        merged = known.updated(report) if known else report
        if manifest != old or merged != known:
            write_measured(bundle.path, manifest, merged)
            print(f"written: {bundle.path}")
        if latency:
            print(f"written: {latency.save()}")
    picture = args.picture or cache_folder() / f"{old.name}-{old.revision}.png"
    if (args.picture or not args.check) and draw(
        picture, f"{old.name}, revision {old.revision}", manifest.quality, latency
    ):
        print(f"drawn: {picture}")
    return int(failed)


def _quality(args: argparse.Namespace, bundle: Bundle, progress: bool) -> tuple[QualityReport, Manifest]:
    """Every set that was named, and the manifest with the first ones' tables."""
    benchmarks, manifest = Benchmarks.read(args), bundle.manifest
    if not benchmarks.sts and not benchmarks.retrieval:
        return QualityReport(manifest.exits, manifest.dims), manifest
    encoder = ReferenceEncoder(bundle.path)
    report = measure_quality(
        encoder, manifest.dims, manifest.exits, benchmarks.sts, benchmarks.retrieval, progress=progress
    )
    original = None
    if args.base:
        original = measure_original(args.base, f"{manifest.provenance.source} at full depth", benchmarks, progress)
    manifest = with_tables(manifest, report, original)
    for table in (manifest.quality if report.sts else None, manifest.search if report.retrieval else None):
        if table:
            print(f"{table.benchmark}, and share of {table.reference} ({table.reference_score:.2f}):")
            for layers, row in table.scores.items():
                cells = (f"{score:.1f} ({score / table.reference_score:.3f})" for score in row.values())
                print(f"  {layers:3} layers: " + ", ".join(cells))
    return report, manifest


def _agreement(
    args: argparse.Namespace, bundle: Bundle, manifest: Manifest, latency: LatencyProfile | None, progress: bool
) -> Manifest:
    """The manifest with agreement and per-text exit, both of the same texts."""
    texts = read_texts(args.text, args.texts)
    encoder = ReferenceEncoder(bundle.path)
    lines = [encoder.prompt + line for line in texts.lines]
    vectors = encoder.encode(lines, manifest.exits, "agreement" if progress else None)
    agreement = measure_agreement(vectors, manifest.dims, texts.name)
    print(f"agreement with full depth, centred cosine over {agreement.count} texts of {agreement.texts}:")
    for exit, mean, p01 in zip(agreement.exits, agreement.mean[-1], agreement.p01[-1], strict=True):
        print(f"  {exit:3} layers: mean {mean:.3f}, worst 1 % {p01:.3f}")
    bar = f"mean >= {agreement.bar.mean}, worst 1 % >= {agreement.bar.p01}"
    print(f"exits that may share an index ({bar}):")
    for dim, exits in agreement.sharing.items():
        print(f"  {dim} dims: {' '.join(map(str, exits))}")
    auto = calibrate(vectors, texts.name)
    if auto is None:
        return manifest.model_copy(update={"agreement": agreement})
    kind = (latency.backend, latency.dtype, latency.device) if latency else (args.backend, args.dtype, args.device)
    savings = asyncio.run(measure_saving(bundle, auto, texts.lines, EngineOptions(*kind), progress))
    auto = judged(auto, savings)
    print(
        f"per-text exit, tested at {' '.join(map(str, auto.exits))} with threshold {auto.threshold}: mean depth "
        f"{auto.mean_depth} of {manifest.exits[-1]}, {auto.faithful:.1%} of {auto.count} texts faithful"
    )
    for saving in savings:
        print(f"  batch {saving.batch}: mean depth {saving.mean_depth:.2f}, time saved {saving.saved:.1%}")
    print(f"  layers=auto is refused: {auto.refused}" if auto.refused else "  layers=auto is offered")
    return manifest.model_copy(update={"agreement": agreement, "auto_exit": auto})


def _failed(known: QualityReport | None, report: QualityReport, old: Manifest, new: Manifest) -> bool:
    """Print how far what was measured is from what is written."""
    found = compare_tables(old, new, report)
    if known:
        found += compare_reports(known, report)
    if old.agreement and new.agreement and new.agreement is not old.agreement:
        found += compare_agreement(old.agreement, new.agreement)
    for difference in found:
        print(difference)
    if not found:
        print("nothing to compare: the bundle has no table of these sets or texts")
    return not found or not all(difference.reproduced for difference in found)


def _show_latency(profile: LatencyProfile) -> None:
    print(f"latency in ms, {profile.backend} {profile.dtype} on {profile.machine}:")
    kinds: Sequence[tuple[int, int]] = sorted({(t.texts, t.tokens) for t in profile.timings})
    for texts, tokens in kinds:
        cells = (
            f"{t.layers}: {1000 * t.seconds:.1f}" for t in profile.timings if (t.texts, t.tokens) == (texts, tokens)
        )
        print(f"  {texts} x {tokens} tokens, by layers  " + "  ".join(cells))
