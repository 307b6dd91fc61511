"""From trained weights to a finished bundle: weights, measurements, card, manifest."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from strata.model_store.bundle.bundle import file_sha256
from strata.model_store.bundle.finishing import finish_bundle
from strata.model_store.bundle.manifest import CARD
from strata.model_store.encoding.precision import pick_device
from strata.model_store.importing.facts import licence_of, source_of
from strata.model_store.importing.importer import import_model
from strata.model_store.importing.overrides import Overrides
from strata.model_store.profiling.benchmarks import Benchmarks
from strata.model_store.profiling.encoders import ModelEncoder
from strata.model_store.profiling.progress import Progress
from strata.model_store.profiling.quality import measure_quality, with_quality
from strata.model_store.profiling.references import SourceModel
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
    manifest = manifest.model_copy(update={"provenance": provenance})
    if benchmarks:
        device = pick_device()
        source = SourceModel(origin.base, provenance.source, device, "fp32", measured=name)
        with Progress("quality", benchmarks.characters + source.missing(benchmarks).characters, not progress) as bar:
            encoder = ModelEncoder(finished, device, told=bar.told)
            found = measure_quality(encoder, benchmarks, manifest.exits, manifest.dims, manifest.query_exits)
            manifest = with_quality(manifest, found, source.measure(benchmarks, bar.told), "float32")
    began_from = [f"{file.name}, sha256 {file_sha256(file)}" for file in sorted(origin.base.rglob("*.safetensors"))]
    (finished / CARD).write_text(model_card(manifest, record, began_from), encoding="utf-8")
    finish_bundle(finished, manifest)
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(finished, output)
