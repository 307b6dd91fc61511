"""Training text on disk: plain lines, pairs and triplets, read once into memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

Group = tuple[str, ...]  # texts that belong together: a pair or a triplet

# Column names by which text fields are known; a file with none of them in its first line has no header.
_COLUMNS = (
    ("anchor", "query", "question", "sentence1", "sentence_A"),
    ("positive", "entailment", "answer", "passage", "document", "sentence2", "sentence_B"),
    ("negative", "contradiction"),
)


@dataclass(frozen=True)
class LineSource:
    """One plain-text file. ``lines`` in file order; ``weight`` is its share of the draws among files of its kind."""

    name: str
    lines: list[str]
    weight: float = 1.0


@dataclass(frozen=True)
class GroupSource:
    """One file of pairs or triplets."""

    name: str
    groups: list[Group]
    weight: float = 1.0


def parse_source(argument: str) -> tuple[Path, float]:
    """``PATH`` or ``PATH@WEIGHT``. Raises ValueError for a weight that is not a positive number."""
    path, at, weight = argument.rpartition("@")
    if not at or Path(argument).exists():
        return Path(argument), 1.0
    try:
        value = float(weight)
    except ValueError:
        value = 0.0
    if value <= 0:
        raise ValueError(f"{argument}: the part after @ must be a positive weight")
    return Path(path), value


def read_lines(path: Path, weight: float = 1.0) -> LineSource:
    """A UTF-8 text file, one passage a line; blank lines are skipped. Raises ValueError if nothing is left."""
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = [text for line in file if (text := " ".join(line.split()))]
    if not lines:
        raise ValueError(f"{path}: no text in it")
    return LineSource(path.name, lines, weight)


def read_groups(path: Path, weight: float = 1.0) -> GroupSource:
    """Pairs or triplets from ``.tsv`` (header optional) or ``.jsonl`` (objects or lists).

    Fields are known by name (anchor/query/sentence1, positive/entailment/sentence2, negative/contradiction); without
    names, a row's first two or three fields are taken. Raises ValueError where a row has fewer than two texts.
    """
    rows = _jsonl(path) if path.suffix in (".jsonl", ".ndjson") else _tsv(path)
    groups = []
    for number, row in rows:
        group = tuple(text for field in row[:3] if (text := " ".join(field.split())))
        if len(group) < 2:
            raise ValueError(f"{path}, row {number}: a pair needs two texts")
        groups.append(group)
    if not groups:
        raise ValueError(f"{path}: no rows in it")
    return GroupSource(path.name, groups, weight)


def _tsv(path: Path) -> Iterator[tuple[int, list[str]]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        first = next(rows, None)
        if first is None:
            return
        columns = _named_columns(first)
        if not columns:
            columns = list(range(min(3, len(first))))
            yield 1, first[:3]
        for number, row in enumerate(rows, start=2):
            yield number, [row[c] for c in columns if c < len(row)]


def _jsonl(path: Path) -> Iterator[tuple[int, list[str]]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            row = json.loads(line)
            if isinstance(row, dict):
                names = list(row)
                row = [row[names[c]] for c in _named_columns(names)]
            yield number, [str(field) for field in row]


def _named_columns(names: list[str]) -> list[int]:
    """Places of the known names in the order of ``_COLUMNS``, if there are two: one may be a text by chance."""
    found = [names.index(known) for kinds in _COLUMNS for known in kinds if known in names]
    return found if len(found) > 1 else []
