"""Search: nDCG@10 over a BEIR folder, with queries and documents at the same depth and with shallow queries."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from strata.model_store.encoding.reference import ReferenceEncoder, Vectors, unit

_TOP = 10


@dataclass(frozen=True)
class RetrievalSet:
    """Queries, documents and which answer which: ``relevance[query id][document id]`` > 0."""

    name: str
    queries: dict[str, str]
    documents: dict[str, str]
    relevance: dict[str, dict[str, int]]


# Names that models give the prompts of either side, as sentence-transformers tries them.
_PROMPTS = {"query": ("query",), "document": ("document", "passage", "corpus")}


@dataclass(frozen=True)
class RetrievalResult:
    """nDCG@10 x 100 by exit and dim: both sides at the exit, and queries at the exit on documents at the last one.

    ``across[i][j]``: queries at exit i on documents at exit j >= i, at full length (an index is built once, as deep as
    it will ever be asked for, so shallower documents do not matter).
    """

    name: str
    queries: int
    documents: int
    same_depth: dict[int, dict[int, float]]
    to_last: dict[int, dict[int, float]]
    across: dict[int, dict[int, float]] = field(default_factory=dict)


def read_beir(folder: Path, split: str = "test", name: str | None = None) -> RetrievalSet:
    """A BEIR folder: ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/{split}.tsv`` (or ``queries_{split}.jsonl`` and
    ``qrels_{split}.tsv``). Only judged queries are kept. Raises FileNotFoundError naming what is missing,
    ValueError where there is none.
    """
    relevance: dict[str, dict[str, int]] = {}
    try:
        documents = {d["_id"]: f"{d.get('title') or ''} {d['text']}".strip() for d in _jsonl(folder / "corpus.jsonl")}
        queries = _jsonl(_first(folder / "queries.jsonl", folder / f"queries_{split}.jsonl"))
        with _first(folder / "qrels" / f"{split}.tsv", folder / f"qrels_{split}.tsv").open(encoding="utf-8") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                if int(row["score"]) > 0:
                    relevance.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
        judged = {q["_id"]: q["text"] for q in queries if q["_id"] in relevance}
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{folder}: needs _id and text in every line of corpus and queries, and columns query-id, corpus-id and "
            f"score in the qrels: {error!r}"
        ) from error
    if not judged:
        raise ValueError(f"{folder}: no query of the split {split!r} has a relevant document")
    return RetrievalSet(name or folder.name, judged, documents, relevance)


def ndcg_at_10(ranking: Iterable[str], relevant: Mapping[str, int]) -> float:
    """nDCG of the first ten of ``ranking``, as trec_eval has it: gain = relevance, discount = log2(rank + 1)."""
    gains = [relevant.get(document, 0) for document in list(ranking)[:_TOP]]
    ideal = sorted(relevant.values(), reverse=True)[:_TOP]
    return _dcg(gains) / _dcg(ideal)


def measure_retrieval(
    encoder: ReferenceEncoder, data: RetrievalSet, exits: Iterable[int], dims: Iterable[int], progress: bool = False
) -> RetrievalResult:
    """nDCG@10 x 100 of ``data`` at every exit and dim. Holds all documents' vectors of all exits in memory."""
    exits, dims = tuple(exits), tuple(dims)
    last = encoder.layers
    with_last = tuple(dict.fromkeys((*exits, last)))
    sides = {}
    for side, texts in (("query", data.queries), ("document", data.documents)):
        prompt = next((encoder.prompts[name] for name in _PROMPTS[side] if name in encoder.prompts), encoder.prompt)
        label = f"{data.name} {side}" if progress else None
        sides[side] = encoder.encode([prompt + text for text in texts.values()], with_last, label)
    full = sides["query"][last].shape[1]
    wanted = [(i, j, d) for i in exits for d in dims for j in dict.fromkeys((i, last))]
    wanted += [(i, j, full) for i in exits for j in exits if j >= i]
    scores = {
        (i, j, d): _ndcg(data, sides["query"][i], sides["document"][j], d)
        for i, j, d in tqdm(dict.fromkeys(wanted), desc=f"{data.name} search", unit="table", disable=not progress)
    }
    return RetrievalResult(
        data.name,
        len(data.queries),
        len(data.documents),
        same_depth={i: {d: scores[i, i, d] for d in dims} for i in exits},
        to_last={i: {d: scores[i, last, d] for d in dims} for i in exits},
        across={i: {j: scores[i, j, full] for j in exits if j >= i} for i in exits},
    )


def _ndcg(data: RetrievalSet, queries: Vectors, documents: Vectors, dim: int) -> float:
    """Mean nDCG@10 x 100 of queries [q, full] against documents [n, full], both cut to ``dim``."""
    ids = list(data.documents)
    similarity = unit(queries, dim) @ unit(documents, dim).T
    rankings = _top(similarity)
    scores = [
        ndcg_at_10((ids[i] for i in ranking), data.relevance[query])
        for query, ranking in zip(data.queries, rankings, strict=True)
    ]
    return 100 * float(np.mean(scores))


def _top(similarity: Vectors) -> npt.NDArray[np.intp]:
    """Columns of the ten highest of each row, best first."""
    count = min(_TOP, similarity.shape[1])
    some = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(similarity, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def _dcg(gains: Iterable[float]) -> float:
    return sum(gain / float(np.log2(rank + 1)) for rank, gain in enumerate(gains, start=1))


def _first(*paths: Path) -> Path:
    for path in paths:
        if path.exists():
            return path
    raise FileNotFoundError(f"none of {', '.join(map(str, paths))} is there")


def _jsonl(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]
