"""Search: nDCG@10 over a BEIR folder, with queries and documents at the same exit and with shallow queries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch

from strata.model_store.encoding.reference import Vectors
from strata.model_store.profiling.beir import RetrievalSet
from strata.model_store.profiling.encoders import Encoder
from strata.model_store.profiling.output_types import Told, as_floats
from strata.model_store.profiling.set_result import Cells, Floats, SetResult

_TOP = 10


def measure_retrieval(
    encoder: Encoder,
    data: RetrievalSet,
    exits: Iterable[int],
    dims: Iterable[int],
    query_exits: Iterable[int] = (),
    told: Told = as_floats,
) -> SetResult:
    """nDCG@10 of each query at every exit and dim: both sides at the exit, and queries on documents at the last exit.

    ``query_exits``: of queries on documents at the last exit (default: ``exits``). Every text is embedded once, and
    the documents' vectors of all exits are held in memory. ``told``: how a vector is told.
    """
    exits, dims = tuple(exits), tuple(dims)
    asked, last = tuple(query_exits) or exits, encoder.layers
    queries = encoder.encode(list(data.queries.values()), tuple(dict.fromkeys((*asked, *exits))), "query")
    documents = encoder.encode(list(data.documents.values()), tuple(dict.fromkeys((*exits, last))), "document")
    ranking = Ranking(data)
    alike: Cells = {}
    on_last: Cells = {}
    for dim in dims:
        deep = told(documents[last], last, dim)
        for layers in asked:
            on_last[layers, dim] = ranking.ndcg(told(queries[layers], layers, dim), deep)
        for layers in exits:
            same = on_last.get((layers, dim)) if layers == last else None
            if same is None:
                same = ranking.ndcg(told(queries[layers], layers, dim), told(documents[layers], layers, dim))
            alike[layers, dim] = same
    return SetResult(
        data.name, data.task, data.sha256, len(data.queries), len(data.documents), data.decides, alike, on_last
    )


class Ranking:
    """Ranks the documents of a set for its queries, as BEIR's evaluator has it.

    A query's own id among the documents is no answer (its ``ignore_identical_ids``).
    """

    def __init__(self, data: RetrievalSet) -> None:
        self._ids = np.array(list(data.documents))
        place = {document: column for column, document in enumerate(data.documents)}
        self._own = [(row, place[query]) for row, query in enumerate(data.queries) if query in place]
        self._relevant = [data.relevance[query] for query in data.queries]
        self._queries = list(data.queries)

    def ndcg(self, queries: Vectors, documents: Vectors) -> Floats:
        """nDCG@10 of each query, from unit vectors [queries, dim] and [documents, dim]."""
        similarity = torch.from_numpy(queries) @ torch.from_numpy(documents).T
        for row, column in self._own:
            similarity[row, column] = -torch.inf
        count = min(_TOP + 1, similarity.shape[1])
        values, columns = (found.numpy() for found in similarity.topk(count, dim=1))
        scores = np.zeros(len(self._queries))
        for row, relevant in enumerate(self._relevant):
            if (np.diff(values[row]) == 0).any():  # equal ones have an order of their own
                ranking = best(similarity[row].numpy(), self._ids)
            else:
                ranking = [str(id) for id in self._ids[columns[row, :_TOP]]]
            scores[row] = ndcg_at_10([document for document in ranking if document != self._queries[row]], relevant)
        return scores


def ndcg_at_10(ranking: Iterable[str], relevant: Mapping[str, int]) -> float:
    """nDCG of the first ten of ``ranking``, as trec_eval has it: gain = relevance, discount = log2(rank + 1).

    A grade below 0 gains nothing; where nothing is relevant it is 0.
    """
    gains = [max(relevant.get(document, 0), 0) for document in list(ranking)[:_TOP]]
    ideal = _dcg(sorted((max(grade, 0) for grade in relevant.values()), reverse=True)[:_TOP])
    return _dcg(gains) / ideal if ideal else 0.0


def best(similarity: npt.NDArray[np.float32], ids: npt.NDArray[np.str_]) -> list[str]:
    """Ids of the ten highest of a row of similarities, best first; of equal ones the greatest id, as in trec_eval."""
    count = min(_TOP, len(ids))
    least = np.partition(similarity, -count)[-count]
    among = np.flatnonzero(similarity >= least)  # more than ten where the tenth is not alone
    ordered = sorted(((similarity[i], ids[i]) for i in among), reverse=True)
    return [str(id) for _, id in ordered[:count]]


_DISCOUNTS = [1 / float(np.log2(rank + 1)) for rank in range(1, _TOP + 1)]


def _dcg(gains: Iterable[float]) -> float:
    return sum(gain * discount for gain, discount in zip(gains, _DISCOUNTS, strict=False))
