"""An index of full-depth documents, built through the server and searched with usearch, as a search service would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from usearch.index import Index

from strata.loadtest.connection import Address, Connection, LoadError, Response
from strata.loadtest.docstrings import docstring_set
from strata.model_store.profiling.beir import RetrievalSet, read_beir
from strata.model_store.profiling.retrieval import ndcg_at_10

Vectors = npt.NDArray[np.float32]

RAW = {"accept": "application/octet-stream"}
_TOP = 10
_DOCUMENTS = 64  # of a request


def retrieval_set(given: str | None) -> RetrievalSet:
    """A BEIR folder (split test unless named), or the docstrings of Python's library. Raises OSError or ValueError."""
    if not given:
        return docstring_set()
    folder, _, split = given.partition("@")
    return read_beir(Path(folder), split or "test")


@dataclass(slots=True, frozen=True)
class SearchIndex:
    """Documents' vectors, and the space they are in."""

    data: RetrievalSet
    space: str
    index: Index

    @classmethod
    async def build(cls, address: Address, data: RetrievalSet) -> SearchIndex:
        """Embed every document through the server. Raises LoadError where it fails, or its vectors do not compare."""
        texts = [text or " " for text in data.documents.values()]
        connection = await Connection.open(address)
        parts, spaces = [], set()
        try:
            for start in range(0, len(texts), _DOCUMENTS):
                body = {"inputs": texts[start : start + _DOCUMENTS], "truncate": True}
                answer = await connection.send(address.post("/embed?input_type=document", body, RAW))
                parts.append(vectors_of(answer))
                spaces.add(answer.header("x-strata-space"))
        finally:
            connection.close()
        if len(spaces) != 1 or None in spaces:
            raise LoadError(f"documents came back in several spaces: {spaces}")
        vectors = np.concatenate(parts)
        index = Index(ndim=vectors.shape[1], metric="cos", dtype="f32")
        index.add(np.arange(len(vectors)), vectors)
        return cls(data, str(spaces.pop()), index)

    def ndcg(self, queries: Sequence[str], vectors: Vectors) -> npt.NDArray[np.float64]:
        """nDCG@10 of each query, by its id and the vector it was answered with."""
        ids = list(self.data.documents)
        scores = np.zeros(len(queries))
        for row, (query, vector) in enumerate(zip(queries, vectors, strict=True)):
            keys = self.index.search(vector, _TOP + 1).keys
            ranking = [found for key in keys if (found := ids[int(key)]) != query]
            scores[row] = ndcg_at_10(ranking, self.data.relevance[query])
        return scores


def vectors_of(answer: Response) -> Vectors:
    """The vectors of a raw answer. Raises LoadError."""
    if answer.status != 200:
        raise LoadError(f"status {answer.status}: {answer.body[:300].decode(errors='replace')}")
    rows, dim = map(int, (answer.header("x-strata-shape") or "0,0").split(","))
    return np.frombuffer(answer.body, "<f4").reshape(rows, dim)


def path_of(policy: Mapping[str, object]) -> str:
    """Where a policy's queries go."""
    asked = "&".join(f"{name}={value}" for name, value in policy.items())
    return f"/embed?input_type=query&{asked}"
