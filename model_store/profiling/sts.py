"""Similarity of short texts: Spearman's rank correlation of cosines with people's scores."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from strata.model_store.encoding.reference import ReferenceEncoder, Vectors, unit


@dataclass(frozen=True)
class StsPairs:
    """Sentence pairs with scores; ``name`` as reports call it."""

    name: str
    first: list[str]
    second: list[str]
    scores: list[float]


@dataclass(frozen=True)
class StsResult:
    """Spearman x 100 by exit and dim."""

    name: str
    pairs: int
    scores: dict[int, dict[int, float]]


def read_sts(path: Path, name: str | None = None) -> StsPairs:
    """A tsv with a header and columns score, sentence1, sentence2. Raises ValueError naming the file otherwise."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    try:
        columns = [[row[key] + "" for row in rows] for key in ("score", "sentence1", "sentence2")]  # None in short rows
        scores = [float(score) for score in columns[0]]
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path}: needs columns score, sentence1 and sentence2: {error}") from error
    if not rows:
        raise ValueError(f"{path}: needs columns score, sentence1 and sentence2, and a row: it has none")
    if len(set(scores)) < 2 or not all(map(isfinite, scores)):
        raise ValueError(f"{path}: has too few different scores, or none in places, for a rank correlation")
    return StsPairs(name or path.stem, columns[1], columns[2], scores)


def cosine_spearman(first: Vectors, second: Vectors, scores: Iterable[float], dim: int) -> float:
    """Spearman x 100 of the cosines of vectors [pairs, full] cut to ``dim`` with ``scores``."""
    cosines = (unit(first, dim) * unit(second, dim)).sum(1)
    return 100 * float(spearmanr(cosines, np.asarray(list(scores))).statistic)


def measure_sts(
    encoder: ReferenceEncoder, pairs: StsPairs, exits: Iterable[int], dims: Iterable[int], progress: bool = False
) -> StsResult:
    """Spearman x 100 of ``pairs`` at every exit and dim."""
    exits, dims = tuple(exits), tuple(dims)
    texts = [encoder.prompt + text for text in pairs.first + pairs.second]
    vectors = encoder.encode(texts, exits, pairs.name if progress else None)
    half = len(pairs.first)
    scores = {e: {d: cosine_spearman(v[:half], v[half:], pairs.scores, d) for d in dims} for e, v in vectors.items()}
    return StsResult(pairs.name, half, scores)
