"""Search: nDCG@10 over a BEIR folder, with queries and documents at the same depth and with shallow queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from strata.model_store.encoding.reference import ReferenceEncoder, Vectors, unit
from strata.model_store.profiling.beir import RetrievalSet

_TOP = 10


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


def ndcg_at_10(ranking: Iterable[str], relevant: Mapping[str, int]) -> float:
    """nDCG of the first ten of ``ranking``, as trec_eval has it: gain = relevance, discount = log2(rank + 1).

    A grade below 0 gains nothing; where nothing is relevant it is 0.
    """
    gains = [max(relevant.get(document, 0), 0) for document in list(ranking)[:_TOP]]
    ideal = _dcg(sorted((max(grade, 0) for grade in relevant.values()), reverse=True)[:_TOP])
    return _dcg(gains) / ideal if ideal else 0.0


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
    """Mean nDCG@10 x 100 of queries [q, full] against documents [n, full], both cut to ``dim``.

    As BEIR's evaluator has it, a query's own id among the documents is no answer (its ``ignore_identical_ids``).
    """
    ids = np.array(list(data.documents))
    place = {document: column for column, document in enumerate(data.documents)}
    similarity = unit(queries, dim) @ unit(documents, dim).T
    for row, query in enumerate(data.queries):
        if query in place:
            similarity[row, place[query]] = -np.inf
    scores = []
    for query, row in zip(data.queries, similarity, strict=True):
        ranking = [document for document in best(row, ids) if document != query]
        scores.append(ndcg_at_10(ranking, data.relevance[query]))
    return 100 * float(np.mean(scores))


def best(similarity: npt.NDArray[np.float32], ids: npt.NDArray[np.str_]) -> list[str]:
    """Ids of the ten highest of a row of similarities, best first; of equal ones the greatest id, as in trec_eval."""
    count = min(_TOP, len(ids))
    least = np.partition(similarity, -count)[-count]
    among = np.flatnonzero(similarity >= least)  # more than ten where the tenth is not alone
    ordered = sorted(((similarity[i], ids[i]) for i in among), reverse=True)
    return [str(id) for _, id in ordered[:count]]


def _dcg(gains: Iterable[float]) -> float:
    return sum(gain / float(np.log2(rank + 1)) for rank, gain in enumerate(gains, start=1))
