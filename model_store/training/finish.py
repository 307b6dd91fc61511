"""From a trained student to a finished bundle: weights, measurements, card, manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model_store.finishing import finish_bundle
from model_store.importing.importer import import_model
from model_store.importing.overrides import Overrides
from model_store.measured import Quality
from model_store.profiling.quality import QualityReport, measure_quality
from model_store.profiling.reference import ReferenceEncoder
from model_store.profiling.retrieval import RetrievalSet
from model_store.profiling.sts import StsPairs, measure_sts
from model_store.training.card import model_card
from model_store.training.recipe import Recipe
from model_store.training.student import Student
from model_store.training.writer import write_student

REPORT = "quality.json"


@dataclass(frozen=True)
class Origin:
    """Where a model comes from, as its manifest and card tell it."""

    base: Path
    source: str | None  # what to call the base; None: what its own files call it
    licence: str | None
    made_with: str
    data: tuple[str, ...]  # a source of data and its licence an entry


@dataclass(frozen=True)
class Benchmarks:
    """What to measure the model on. The first of ``sts`` is the manifest's quality, as a share of the base's score."""

    sts: Sequence[StsPairs] = ()
    retrieval: Sequence[RetrievalSet] = ()


def finish(
    student: Student,
    recipe: Recipe,
    steps: int,
    drawn_from: list[str],
    origin: Origin,
    work: Path,
    output: Path,
    name: str,
    benchmarks: Benchmarks,
    progress: bool = True,
) -> None:
    """Write the bundle at ``output``, measured as it lies on disk; ``work`` takes the folder it is made from.

    ``steps`` is how many the run made and ``drawn_from`` a line for each file of data, both for the card.
    """
    draft = work / "model"
    shutil.rmtree(draft, ignore_errors=True)
    write_student(student, draft)
    dims = tuple(d for d in recipe.dims if d < student.hidden_size)
    overrides = Overrides(
        name=name,
        exits=student.exits,
        exit_norm=student.exit_norm if student.final_norm is not None else None,
        dims=dims,
        licence=origin.licence,
        source=origin.source,
    )
    manifest = import_model(draft, output, overrides=overrides, made_with=origin.made_with)
    provenance = manifest.provenance.model_copy(update={"data": origin.data})
    report = _measure(output, (*dims, manifest.full_dim), benchmarks, progress)
    quality = _quality(report, origin.base, provenance.source, benchmarks)
    manifest = manifest.model_copy(update={"provenance": provenance, "quality": quality})
    (output / "README.md").write_text(model_card(manifest, recipe, steps, drawn_from, report), encoding="utf-8")
    if report is not None:
        (output / REPORT).write_text(json.dumps(report.as_data(), indent=1) + "\n", encoding="utf-8")
    finish_bundle(output, manifest)


def _measure(folder: Path, dims: Sequence[int], benchmarks: Benchmarks, progress: bool) -> QualityReport | None:
    if not benchmarks.sts and not benchmarks.retrieval:
        return None
    return measure_quality(folder, dims, sts=benchmarks.sts, retrieval=benchmarks.retrieval, progress=progress)


def _quality(report: QualityReport | None, base: Path, reference: str, benchmarks: Benchmarks) -> Quality | None:
    """The manifest's quality; None where nothing was measured, or the base's score leaves nothing to be a share of."""
    if report is None or not report.sts:
        return None
    encoder = ReferenceEncoder(base)
    size = int(encoder.model.config.hidden_size)
    score = measure_sts(encoder, benchmarks.sts[0], (encoder.layers,), (size,)).scores[encoder.layers][size]
    if score <= 0:
        return None
    return Quality(
        benchmark=f"{report.sts[0].name}, cosine Spearman x 100",
        reference=f"{reference} at full depth",
        reference_score=round(score, 2),
        scores={layer: {d: round(s, 2) for d, s in row.items()} for layer, row in report.sts[0].scores.items()},
    )
