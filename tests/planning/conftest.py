"""A model on paper: six layers, exits 1 to 6 but 5, a table in which one deeper exit is worse than a shallower one."""

from __future__ import annotations

import pytest

from strata.model_store.bundle.manifest import Architecture, Manifest, Provenance
from strata.model_store.bundle.quality import MeasuredSet, Quality, Scores, ToldApart

SCORES = {1: 50.0, 2: 60.0, 3: 58.0, 4: 70.0, 6: 80.0}


def paper_set(task: str, scores: Scores, queries: Scores | None = None) -> MeasuredSet:
    """A set whose source model scores 80."""
    digest = task.encode().hex().ljust(64, "0")[:64]
    return MeasuredSet(
        task=task, metric="points", count=9, sha256=digest, reference_score=80.0, scores=scores, queries=queries or {}
    )


def paper_quality() -> Quality:
    """Similarity alone, and its sets can tell that exit 3 is worse than exit 2."""
    table = {layers: {16: 0.9 * score, 64: score} for layers, score in SCORES.items()}
    beaten = {"similarity": {16: {3: 2}, 64: {3: 2}}}
    apart = ToldApart(samples=1000, confidence=0.95, alike=beaten, queries={})
    return Quality(reference="paper", sets={"made up": paper_set("similarity", table)}, told_apart=apart)


def paper_manifest(*, measured: bool = True) -> Manifest:
    """Exits 1, 2, 3, 4, 6 of 6 layers, dims 16 and 64; at 16 dims everything is worth a tenth less."""
    return Manifest(
        name="paper",
        architecture=Architecture(
            family="bert",
            layers=6,
            hidden_size=64,
            attention_heads=4,
            intermediate_size=128,
            activation="gelu",
            norm_eps=1e-12,
            vocab_size=100,
            positions=128,
        ),
        pooling="mean",
        exits=tuple(SCORES),
        dims=(16, 64),
        max_tokens=128,
        quality=paper_quality() if measured else None,
        provenance=Provenance(source="nowhere", licence="MIT", made_with="the tests"),
        files={},
    )


@pytest.fixture(scope="session")
def manifest() -> Manifest:
    return paper_manifest()
