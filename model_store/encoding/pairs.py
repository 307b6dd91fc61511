"""Files of pairs and triplets of texts that belong together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from strata.model_store.encoding.rows import JSON_SUFFIXES, is_number, json_rows, refuse, text_field, tsv_rows

Group = tuple[str, ...]  # texts that belong together: a pair or a triplet

# Column names by which text fields are known, in any case. A TSV has a header if its first line names a pair by them,
# whatever else is in it, or if the line is all single words and one of them is such a name.
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


def read_pairs(path: Path) -> list[Group]:
    """Pairs or triplets from TSV (header optional) or ``.jsonl``, ``.ndjson``, ``.json`` (objects or lists), in order.

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
    if not groups:
        raise ValueError(f"{path}: no rows in it")
    return groups


def _tsv(path: Path) -> Iterator[tuple[int, Sequence[str]]]:
    rows = tsv_rows(path)
    number, first = next(rows, (0, [""]))
    named = None not in _places(first)[:2] or all(map(str.isidentifier, map(str.strip, first)))
    columns = _named(path, number, first) if named else []
    if columns:
        for number, row in rows:
            yield number, [row[column] if column < len(row) else "" for column in columns]
        return
    bare = [(number, first[:3]), *((number, row[:3]) for number, row in rows)] if number else []
    for place in range(3):
        column = [row[place] for _, row in bare if place < len(row)]
        if column and all(map(is_number, column)):
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
    places = _places(names)
    if places[0] is None and places[1] is None:
        return []
    if places[0] is None or places[1] is None:
        refuse(path, number, f"names the columns {', '.join(names)[:200]}; {_EXPECTED}")
    return [place for place in places if place is not None]


def _places(names: Sequence[str]) -> list[int | None]:
    """Of anchor, positive and negative among the names; None for what is not named."""
    plain = [name.strip().lower() for name in names]
    return [next((plain.index(name) for name in known if name in plain), None) for known in _COLUMNS.values()]
