"""Similarity of short texts: Spearman's rank correlation of cosines with people's scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from strata.model_store.bundle.quality import SIMILARITY
from strata.model_store.encoding.reference import Vectors, unit
from strata.model_store.encoding.rows import JSON_SUFFIXES, json_rows, refuse, text_field, tsv_rows
from strata.model_store.profiling.encoders import Encoder
from strata.model_store.profiling.output_types import Told, as_floats
from strata.model_store.profiling.set_result import Floats, SetResult, digest

_COLUMNS = ("score", "sentence1", "sentence2")
_SICK = {"relatedness_score": "score", "sentence_a": "sentence1", "sentence_b": "sentence2"}  # as SICK's files have it


@dataclass(frozen=True)
class StsPairs:
    """Sentence pairs with scores; ``name`` as reports call it. ``decides``: see `MeasuredSet`."""

    name: str
    first: list[str]
    second: list[str]
    scores: list[float]
    task: str = SIMILARITY
    decides: bool = True

    @property
    def sha256(self) -> str:
        """Of the pairs and their scores."""
        return digest([self.first, self.second, self.scores])


def read_sts(path: Path, name: str | None = None) -> StsPairs:
    """A TSV with a header line, or JSONL, of the columns score, sentence1 and sentence2; SICK's own names will do.

    Raises ValueError naming file and row otherwise.
    """
    first, second, scores = [], [], []
    for number, row in _named_rows(path):
        texts = [text_field(path, number, column, row[column]) for column in _COLUMNS[1:]]
        if empty := [column for column, text in zip(_COLUMNS[1:], texts, strict=True) if not text.strip()]:
            refuse(path, number, f"{empty[0]} is empty; expected a text")
        try:
            score = float(row["score"])
        except (TypeError, ValueError):
            refuse(path, number, f"score is {str(row['score'])[:40]!r}; expected a number")
        if not isfinite(score):
            refuse(path, number, f"score is {score}; expected a number")
        first.append(texts[0])
        second.append(texts[1])
        scores.append(score)
    if len(set(scores)) < 2:
        raise ValueError(
            f"{path}: {len(scores)} rows with {len(set(scores))} different scores; a rank needs at least 2"
        )
    return StsPairs(name or path.stem, first, second, scores)


def _named_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows that have every one of the columns."""
    expected = f"expected the columns {', '.join(_COLUMNS)}"
    if path.suffix.lower() in JSON_SUFFIXES:
        for number, row in json_rows(path):
            if not isinstance(row, dict) or not set(_COLUMNS) <= set(row):
                refuse(path, number, f"{expected} as fields of an object")
            yield number, row
        return
    rows = tsv_rows(path)
    number, names = next(rows, (1, []))
    names = [_SICK.get(name, name) for name in (name.strip().lower() for name in names)]
    if not set(_COLUMNS) <= set(names):
        refuse(path, number, f"{expected}, named in this row and separated by tabs; it has {', '.join(names)[:200]}")
    for number, fields in rows:
        if len(fields) < len(names):
            refuse(path, number, f"has {len(fields)} fields; expected {len(names)}, as in the first row")
        yield number, dict(zip(names, fields, strict=False))


def measure_sts(
    encoder: Encoder, pairs: StsPairs, exits: Iterable[int], dims: Iterable[int], told: Told = as_floats
) -> SetResult:
    """Cosines of ``pairs`` at every exit and dim, of vectors as they are ``told``."""
    exits, dims = tuple(exits), tuple(dims)
    vectors = encoder.encode(pairs.first + pairs.second, exits)
    half = len(pairs.first)
    units = {(e, d): told(v, e, d) for e, v in vectors.items() for d in dims}
    cells = {place: cosines(v[:half], v[half:], place[1]) for place, v in units.items()}
    return SetResult(
        pairs.name,
        pairs.task,
        pairs.sha256,
        half,
        None,
        pairs.decides,
        cells,
        people=np.array(pairs.scores, np.float64),
    )


def cosines(first: Vectors, second: Vectors, dim: int) -> Floats:
    """Cosine of each pair of vectors [pairs, full] cut to ``dim``."""
    return np.asarray((unit(first, dim) * unit(second, dim)).sum(1), np.float64)
