"""Training text on disk: plain lines, pairs and triplets, read once into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strata.model_store.encoding.rows import JSON_SUFFIXES, json_rows, refuse, text_field, text_rows, tsv_rows
from strata.model_store.profiling.held_out import split_held_out

Group = tuple[str, ...]  # texts that belong together: a pair or a triplet

# Column names by which text fields are known, in any case; a TSV with none of them in its first line has no header.
_COLUMNS = {
    "anchor": ("anchor", "query", "question", "sentence1", "sentence_a"),
    "positive": ("positive", "entailment", "answer", "passage", "document", "sentence2", "sentence_b"),
    "negative": ("negative", "contradiction"),
}
_PARTS = tuple(_COLUMNS)
_EXPECTED = (
    "expected an anchor ({anchor}) and a positive ({positive}), and if there is one a negative ({negative})".format(
        **{part: ", ".join(names) for part, names in _COLUMNS.items()}
    )
)


@dataclass(frozen=True)
class LineSource:
    """One plain-text file. ``lines`` in file order; ``weight`` is its share of the draws among files of its kind."""

    name: str
    lines: list[str]
    weight: float = 1.0
    sha256: str = ""  # of the file


@dataclass(frozen=True)
class GroupSource:
    """One file of pairs or triplets."""

    name: str
    groups: list[Group]
    weight: float = 1.0
    sha256: str = ""  # of the file


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
    """A text file, one passage a line; blank lines are skipped. Raises ValueError naming file and row."""
    lines = [text for _, line in text_rows(path) if (text := " ".join(line.split()))]
    if not lines:
        raise ValueError(f"{path}: no text in it")
    return LineSource(path.name, lines, weight, file_sha256(path))


def read_groups(path: Path, weight: float = 1.0) -> GroupSource:
    """Pairs or triplets from TSV (header optional) or ``.jsonl``, ``.ndjson``, ``.json`` (objects or lists), but for
    those held out, on which search is measured.

    Fields are known by name (anchor/query/sentence1, positive/entailment/sentence2, negative/contradiction); without
    names, a row's first two or three fields are taken. A negative may be absent, empty or null. Raises ValueError
    naming file and row.
    """
    rows = _json(path) if path.suffix.lower() in JSON_SUFFIXES else _tsv(path)
    groups = []
    for number, row in rows:
        texts = [
            " ".join(text_field(path, number, part, value).split()) for part, value in zip(_PARTS, row, strict=False)
        ]
        if len(texts) < 2 or not texts[0] or not texts[1]:
            refuse(path, number, f"a pair needs two texts; {_EXPECTED}, or two or three fields without names")
        groups.append(tuple(text for text in texts if text))
    kept, _ = split_held_out(groups)
    if not kept:
        raise ValueError(f"{path}: no rows in it that are not held out")
    return GroupSource(path.name, kept, weight, file_sha256(path))


def _tsv(path: Path) -> Iterator[tuple[int, Sequence[str]]]:
    rows = tsv_rows(path)
    number, first = next(rows, (0, [""]))
    columns = _named(path, number, first) if all(map(str.isidentifier, map(str.strip, first))) else []
    if columns:
        for number, row in rows:
            yield number, [row[column] if column < len(row) else "" for column in columns]
        return
    bare = [(number, first[:3]), *((number, row[:3]) for number, row in rows)] if number else []
    for place in range(3):
        column = [row[place] for _, row in bare if place < len(row)]
        if column and all(map(_is_number, column)):
            refuse(path, number, f"field {place + 1} of every row is a number, not a text; name the columns in row 1")
    yield from bare


def _json(path: Path) -> Iterator[tuple[int, Sequence[Any]]]:
    for number, row in json_rows(path):
        if isinstance(row, dict):
            names = list(row)
            columns = _named(path, number, names)
            if not columns:
                refuse(path, number, f"has the fields {', '.join(names)[:200] or 'of nothing'}; {_EXPECTED}")
            yield number, [row[names[column]] for column in columns]
        else:
            yield number, row[:3]


def _named(path: Path, number: int, names: Sequence[str]) -> list[int]:
    """Places of anchor, positive and, where there is one, negative; none where no name is known.

    Raises ValueError where one of a pair is named and the other is not.
    """
    plain = [name.strip().lower() for name in names]
    places = [next((plain.index(name) for name in known if name in plain), None) for known in _COLUMNS.values()]
    if places[0] is None and places[1] is None:
        return []
    if places[0] is None or places[1] is None:
        refuse(path, number, f"names the columns {', '.join(names)[:200]}; {_EXPECTED}")
    return [place for place in places if place is not None]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def file_sha256(path: Path) -> str:
    """The file's SHA-256, as ``sha256sum`` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
