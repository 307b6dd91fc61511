"""BEIR folders: documents, queries and judgements, read as BEIR's own loader and evaluator take them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from strata.model_store.bundle.quality import SEARCH
from strata.model_store.encoding.rows import is_number, json_rows, refuse, text_field, tsv_rows
from strata.model_store.profiling.set_result import digest

logger = logging.getLogger(__name__)

_HEADER = ("query-id", "corpus-id", "score")


@dataclass(frozen=True)
class RetrievalSet:
    """Queries, documents and which answer which.

    ``relevance[query id][document id]`` has every judgement, those of 0 and of documents that are not there too: a
    query without anything relevant counts as 0, and what cannot be found is missed, as BEIR's evaluator has it.
    """

    name: str
    queries: dict[str, str]
    documents: dict[str, str]
    relevance: dict[str, dict[str, int]]
    task: str = SEARCH
    decides: bool = True

    @property
    def sha256(self) -> str:
        """Of queries, documents and judgements."""
        return digest([self.queries, self.documents, self.relevance])


def read_beir(folder: Path, split: str = "test", name: str | None = None) -> RetrievalSet:
    """A BEIR folder: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/{split}.tsv`` (or ``queries_{split}.jsonl`` and
    ``qrels_{split}.tsv``).

    Only judged queries are kept. Logs a warning that counts what does not fit together: judgements of absent queries
    (left out) and documents (missed by every ranking), documents without text (empty), ids given twice (the last one
    counts). Raises FileNotFoundError naming what is missing, ValueError naming file and row of what cannot be read.
    """
    corpus = _first(folder / "corpus.jsonl")
    asked = _first(folder / "queries.jsonl", folder / f"queries_{split}.jsonl")
    qrels = _first(folder / "qrels" / f"{split}.tsv", folder / f"qrels_{split}.tsv")
    relevance, documents, found = _judgements(qrels), _texts(corpus, titled=True), _texts(asked, titled=False)
    queries = {query: found[query] for query in relevance if query in found}
    _warn(qrels, len(relevance) - len(queries), "judged queries are not among the queries, and are left out")
    relevance = {query: relevance[query] for query in queries}
    if not any(score > 0 for judged in relevance.values() for score in judged.values()):
        raise ValueError(f"{folder}: no query of the split {split!r} has a relevant document")
    absent = sum(document not in documents for judged in relevance.values() for document in judged)
    _warn(qrels, absent, "judged documents are not in the corpus; those that are relevant count as missed")
    for query, text in queries.items():
        if not text.strip():
            raise ValueError(f"{folder}: the judged query {query!r} has no text")
    return RetrievalSet(name or folder.resolve().name, queries, documents, relevance)


def _texts(path: Path, *, titled: bool) -> dict[str, str]:
    """Texts by id, the title before the text."""
    texts: dict[str, str] = {}
    twice = empty = 0
    for number, row in json_rows(path):
        if not isinstance(row, dict) or "_id" not in row or "text" not in row:
            refuse(path, number, "expected an object with _id and text")
        key = text_field(path, number, "_id", row["_id"])
        if not key:
            refuse(path, number, "_id is empty")
        title = text_field(path, number, "title", row.get("title")) if titled else ""
        text = f"{title} {text_field(path, number, 'text', row['text'])}".strip()
        twice += key in texts
        empty += not text
        texts[key] = text
    if not texts:
        raise ValueError(f"{path}: no rows in it")
    _warn(path, twice, "rows have an _id that came before; the last one counts")
    if titled:
        _warn(path, empty, "documents have neither title nor text, and stay as empty ones")
    return texts


def _judgements(path: Path) -> dict[str, dict[str, int]]:
    relevance: dict[str, dict[str, int]] = {}
    for number, query, document, score in _triples(path):
        try:
            grade = float(score)
        except ValueError:
            refuse(path, number, f"score is {score[:40]!r}; expected a whole number")
        if not grade.is_integer():
            refuse(path, number, f"score is {score}; expected a whole number")
        relevance.setdefault(query, {})[document] = int(grade)
    return relevance


def _triples(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """Row number, query id, document id and score, in whatever order the header has them."""
    order: list[int] = []
    for number, fields in tsv_rows(path, quoted=True):
        if len(fields) < len(_HEADER):
            refuse(path, number, f"has {len(fields)} fields; expected {', '.join(_HEADER)}, separated by tabs")
        if not order:
            names = [field.strip().lower() for field in fields]
            named = set(_HEADER) <= set(names)
            order = [names.index(name) for name in _HEADER] if named else [0, 1, 2]
            if not named and len(fields) > len(_HEADER):  # TREC's own files have a field between query and document
                refuse(
                    path, number, f"has {len(fields)} fields and names none; name {', '.join(_HEADER)} in the first row"
                )
            if named or not is_number(fields[2]):  # a header of other names is skipped, as BEIR does
                continue
        query, document, score = (fields[place] for place in order)
        yield number, query, document, score


def _warn(path: Path, count: int, what: str) -> None:
    if count:
        logger.warning("%s: %d %s", path, count, what)


def _first(*paths: Path) -> Path:
    for path in paths:
        if path.exists():
            return path
    raise FileNotFoundError(f"none of {', '.join(map(str, paths))} is there")
