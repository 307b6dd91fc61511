"""Retrieval sets made of the pairs that training keeps out: their first texts ask, their second texts answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from strata.model_store.bundle.writing import make_folder, write_text
from strata.model_store.encoding.pairs import read_pairs
from strata.model_store.profiling.held_out import ONE_IN, split_held_out

QUERIES, DOCUMENTS = 300, 1000


@dataclass(frozen=True)
class MadeSet:
    """What was written."""

    name: str
    queries: int
    documents: int


def make_set(pairs: Path, folder: Path, queries: int = QUERIES, documents: int = DOCUMENTS) -> MadeSet:
    """Write a BEIR folder, split ``test``, from a file of pairs; the same file gives the same bytes.

    Queries are the first ``queries`` texts that are held out, in the file's order; relevant are all passages they have
    there. The corpus is these passages, then others that are held out, then those of training, up to ``documents``.
    Raises ValueError where nothing is held out, or the folder holds a set already.
    """
    if (folder / "corpus.jsonl").exists():
        raise ValueError(f"{folder}: holds a set already")
    rows = read_pairs(pairs)
    kept, held = split_held_out(rows)
    answers: dict[str, list[str]] = {}
    for row in held:
        if row[0] in answers or len(answers) < queries:
            answers.setdefault(row[0], []).append(row[1])
    if not answers:
        raise ValueError(f"{pairs}: none of its {len(rows)} pairs is held out; one in {ONE_IN} is, by its text")
    places: dict[str, str] = {}
    for passage in (passage for found in answers.values() for passage in found):
        places.setdefault(passage, f"d{len(places)}")
    for row in (*held, *kept):
        if len(places) >= documents:
            break
        places.setdefault(row[1], f"d{len(places)}")
    make_folder(folder / "qrels")
    write_text(folder / "corpus.jsonl", _lines({"_id": id, "title": "", "text": text} for text, id in places.items()))
    write_text(folder / "queries.jsonl", _lines({"_id": f"q{i}", "text": text} for i, text in enumerate(answers)))
    judged = [
        f"q{i}\t{places[passage]}\t1" for i, found in enumerate(answers.values()) for passage in dict.fromkeys(found)
    ]
    write_text(folder / "qrels" / "test.tsv", "\n".join(("query-id\tcorpus-id\tscore", *judged)) + "\n")
    return MadeSet(folder.name, len(answers), len(places))


def _lines(rows: Iterable[Mapping[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
