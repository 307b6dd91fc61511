"""Measuring a model on labelled sets, and the manifest's quality from what was found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.output_types import OutputType
from strata.model_store.bundle.quality import Dtype, MeasuredSet, Quality, Scored, Variant
from strata.model_store.profiling.benchmarks import Benchmarks
from strata.model_store.profiling.bootstrap import tell_apart
from strata.model_store.profiling.encoders import Encoder, Remembered
from strata.model_store.profiling.output_types import told_as
from strata.model_store.profiling.references import References
from strata.model_store.profiling.retrieval import measure_retrieval
from strata.model_store.profiling.set_result import SetResult, rounded
from strata.model_store.profiling.sts import measure_sts


def measure_quality(
    encoder: Encoder, benchmarks: Benchmarks, exits: Sequence[int], dims: Sequence[int], query_exits: Sequence[int] = ()
) -> list[SetResult]:
    """Every set at ``exits`` and ``dims``, each text embedded once for all. ``query_exits``: of queries."""
    found = [measure_sts(encoder, pairs, exits, dims) for pairs in benchmarks.sts]
    found += [measure_retrieval(encoder, data, exits, dims, query_exits) for data in benchmarks.retrieval]
    return found


def measure_output_types(
    encoder: Encoder, benchmarks: Benchmarks, manifest: Manifest, kinds: Sequence[OutputType]
) -> dict[OutputType, list[SetResult]]:
    """Every set in every type of output, each text embedded once for all."""
    found: dict[OutputType, list[SetResult]] = {kind: [] for kind in kinds}
    exits, dims = manifest.exits, manifest.dims
    for pairs in benchmarks.sts:
        kept: Encoder = Remembered(encoder)
        for kind in kinds:
            found[kind].append(measure_sts(kept, pairs, exits, dims, told_as(kind, manifest.int8_ranges)))
    for data in benchmarks.retrieval:
        kept = Remembered(encoder)
        for kind in kinds:
            told = told_as(kind, manifest.int8_ranges)
            found[kind].append(measure_retrieval(kept, data, exits, dims, manifest.query_exits, told))
    return found


def with_quality(manifest: Manifest, found: Sequence[SetResult], references: References, dtype: Dtype) -> Manifest:
    """The manifest with the sets that were found in place of those of the same name; sets of another kind stay.

    What was measured against another source model, or in another dtype, goes. Raises ValueError where a set has no
    reference score.
    """
    old = manifest.quality
    if old and (old.reference, old.dtype) != (references.name, dtype):
        old = None
    sets = {each.name: measured_set(each, references.scores[each.name]) for each in found}
    kept = {name: each for name, each in (old.sets if old else {}).items() if name not in sets}
    # A table stays true as long as every set of its task is the one it was worked out on.
    judged = {each.task for each in found} - {each.task for each in kept.values() if each.decides}
    apart = tell_apart([each for each in found if each.task in judged], references.scores)
    told = old.told_apart if old else None
    if told and (told.samples, told.confidence) == (apart.samples, apart.confidence):
        changed = {each.task for each in found}
        apart = apart.model_copy(
            update={
                "alike": {**_without(told.alike, changed), **apart.alike},
                "queries": {**_without(told.queries, changed), **apart.queries},
            }
        )
    variants = tuple(_still(variant, sets) for variant in (old.variants if old else ()))
    quality = Quality(
        reference=references.name,
        dtype=dtype,
        sets={**kept, **sets},
        told_apart=apart,
        variants=tuple(variant for variant in variants if variant.sets),
    )
    return manifest.model_copy(update={"quality": quality})


def with_variant(quality: Quality, found: Iterable[SetResult], dtype: Dtype, output_type: str = "float") -> Quality:
    """The quality with figures of another dtype or output type, beside those it has of that kind on other sets.

    Raises ValueError for a set that was not measured before, or is another one under its name.
    """
    sets: dict[str, Scored] = {}
    for each in found:
        if each.name not in quality.sets or quality.sets[each.name].sha256 != each.sha256:
            raise ValueError(
                f"{each.name}: not among the sets the bundle was measured on; measure it without that first"
            )
        sets[each.name] = _scored(each)
    kind = (dtype, output_type)
    known = {(variant.dtype, variant.output_type): variant for variant in quality.variants}
    before = known[kind].sets if kind in known else {}
    known[kind] = Variant(dtype=dtype, output_type=output_type, sets={**before, **sets})
    return Quality.model_validate({**quality.model_dump(), "variants": [each.model_dump() for each in known.values()]})


def measured_set(found: SetResult, reference_score: float) -> MeasuredSet:
    """A set as the manifest has it. Raises ValueError where the source model's score is nothing to take a share of."""
    if not reference_score > 0.005:
        raise ValueError(
            f"{found.name}: the source model scores {reference_score:.2f} on it, of which there are no shares; "
            "look whether its labels belong to its texts"
        )
    return MeasuredSet(
        task=found.task,
        metric=found.metric,
        count=found.count,
        documents=found.documents,
        sha256=found.sha256,
        reference_score=round(reference_score, 2),
        decides=found.decides,
        **_scored(found).model_dump(),
    )


def _scored(found: SetResult) -> Scored:
    return Scored(scores=rounded(found.scores("alike")), queries=rounded(found.scores("queries")))


def _without(beaten: Mapping[str, dict[int, dict[int, int]]], tasks: set[str]) -> dict[str, dict[int, dict[int, int]]]:
    return {task: table for task, table in beaten.items() if task not in tasks}


def _still(variant: Variant, changed: Mapping[str, object]) -> Variant:
    """A variant without the sets that were measured anew: its figures may be of other weights."""
    return variant.model_copy(update={"sets": {n: each for n, each in variant.sets.items() if n not in changed}})
