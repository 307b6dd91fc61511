"""From trained weights to a finished bundle: weights, measurements, card, manifest."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from strata.model_store.bundle.finishing import finish_bundle
from strata.model_store.bundle.manifest import CARD, REPORT
from strata.model_store.encoding.reference import ReferenceEncoder
from strata.model_store.importing.facts import licence_of, source_of
from strata.model_store.importing.importer import import_model
from strata.model_store.importing.overrides import Overrides
from strata.model_store.profiling.benchmarks import Benchmarks
from strata.model_store.profiling.quality import measure_quality
from strata.model_store.profiling.shares import measure_original, with_tables
from strata.model_store.training.card import model_card
from strata.model_store.training.record import WEIGHTS, RunRecord


@dataclass(frozen=True)
class Origin:
    """Where a model comes from, as its manifest and card tell it."""

    base: Path
    source: str | None  # what to call the base; None: what its own files call it
    licence: str | None
    made_with: str
    data: tuple[str, ...]  # a source of data and its licence an entry


def finish(
    record: RunRecord,
    origin: Origin,
    work: Path,
    output: Path,
    name: str,
    benchmarks: Benchmarks,
    progress: bool = True,
) -> None:
    """Write the bundle at ``output`` from the weights in ``work``, measured as it lies on disk."""
    finished = work / "bundle"
    shutil.rmtree(finished, ignore_errors=True)
    exits = tuple(layer for layer in record.exits if layer)  # 0 is told by its head alone
    overrides = Overrides(
        name=name,
        exits=exits,
        exit_norm=record.exit_norm,
        dims=record.dims,
        licence=origin.licence or licence_of(origin.base),
        source=origin.source or source_of(origin.base),
    )
    manifest = import_model(work / WEIGHTS, finished, overrides=overrides, made_with=origin.made_with)
    provenance = manifest.provenance.model_copy(update={"data": origin.data})
    encoder = ReferenceEncoder(finished)
    report = measure_quality(encoder, manifest.dims, (), benchmarks.sts, benchmarks.retrieval, progress)
    original = None
    if benchmarks.sts or benchmarks.retrieval:
        original = measure_original(origin.base, f"{provenance.source} at full depth", benchmarks, progress)
    manifest = with_tables(manifest.model_copy(update={"provenance": provenance}), report, original)
    (finished / CARD).write_text(model_card(manifest, record, report), encoding="utf-8")
    (finished / REPORT).write_text(json.dumps(report.as_data(), indent=1) + "\n", encoding="utf-8")
    finish_bundle(finished, manifest)
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(finished, output)
