"""From scores to the manifest's tables: what the scores are shares of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from strata.model_store.bundle.bundle import read_manifest
from strata.model_store.bundle.manifest import MANIFEST_NAME, Manifest
from strata.model_store.bundle.measured import Quality, SearchQuality
from strata.model_store.encoding.reference import ReferenceEncoder
from strata.model_store.profiling.benchmarks import Benchmarks
from strata.model_store.profiling.quality import QualityReport, measure_quality

Scores = Mapping[int, Mapping[int, float]]


@dataclass(frozen=True)
class Original:
    """By benchmark: the model whose full-depth score is 1.0, and that score."""

    references: Mapping[str, tuple[str, float]]


def measure_original(folder: Path, name: str, benchmarks: Benchmarks, progress: bool = False) -> Original:
    """Full-depth scores of the model in ``folder`` on the first set of each kind, which the manifest carries.

    Where ``folder`` is a bundle that says what its own scores on a set are shares of, that model and its score stay
    the reference: what is made of a bundle is compared with what the bundle was made of. On other sets it is the
    bundle itself, and goes by its own name instead of ``name``.
    """
    known = read_manifest(folder) if (folder / MANIFEST_NAME).exists() else None
    encoder = ReferenceEncoder(folder)
    full = known.full_dim if known else int(encoder.model.config.hidden_size)
    report = measure_quality(
        encoder, (full,), (encoder.layers,), benchmarks.sts[:1], benchmarks.retrieval[:1], progress
    )
    scores = {_sts_name(result.name): result.scores[encoder.layers][full] for result in report.sts}
    scores |= {_search_name(result.name): result.same_depth[encoder.layers][full] for result in report.retrieval}
    if known is None:
        return Original({benchmark: (name, score) for benchmark, score in scores.items()})
    references = {benchmark: (f"{known.name} at full depth", score) for benchmark, score in scores.items()}
    for table in filter(None, (known.quality, known.search)):
        if table.benchmark in references:
            references[table.benchmark] = (table.reference, table.reference_score)
    return Original(references)


def with_tables(manifest: Manifest, measured: QualityReport, original: Original | None) -> Manifest:
    """The manifest with tables of the first set of each kind in ``measured``; a kind that was not keeps its table.

    Shares are of ``original``; without one, of what an earlier table of that benchmark is a share of; else of the
    model's own full depth.
    """
    tables: dict[str, Quality | None] = {}
    for sts in measured.sts[:1]:
        name = _sts_name(sts.name)
        reference = _reference(manifest, manifest.quality, name, sts.scores, original)
        tables["quality"] = reference and Quality(
            benchmark=name, reference=reference[0], reference_score=reference[1], scores=_rounded(sts.scores)
        )
    for found in measured.retrieval[:1]:
        name = _search_name(found.name)
        reference = _reference(manifest, manifest.search, name, found.same_depth, original)
        tables["search"] = reference and SearchQuality(
            benchmark=name,
            reference=reference[0],
            reference_score=reference[1],
            scores=_rounded(found.same_depth),
            to_last=_rounded(found.to_last),
        )
    return manifest.model_copy(update=tables)


def _reference(
    manifest: Manifest, known: Quality | None, benchmark: str, scores: Scores, original: Original | None
) -> tuple[str, float] | None:
    """Name and score of the model that is 1.0; None where that score leaves nothing to be a share of."""
    if original is not None:
        name, score = original.references[benchmark]
    elif known is not None and known.benchmark == benchmark:
        name, score = known.reference, known.reference_score
    else:
        name, score = f"{manifest.name} at full depth", scores[manifest.exits[-1]][manifest.full_dim]
    score = round(score, 2)
    return (name, score) if score > 0 else None


def _sts_name(name: str) -> str:
    return f"{name}, cosine Spearman x 100"


def _search_name(name: str) -> str:
    return f"{name}, nDCG@10 x 100"


def _rounded(scores: Scores) -> dict[int, dict[int, float]]:
    return {exit: {dim: round(score, 2) for dim, score in row.items()} for exit, row in scores.items()}
