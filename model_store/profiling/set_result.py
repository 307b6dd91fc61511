"""What one labelled set gave: scores of its items at every exit and dim, from which score and doubt are worked out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from strata.model_store.bundle.quality import Scores, Side

Floats = npt.NDArray[np.float64]
Cells = dict[tuple[int, int], Floats]  # (exit, dim) -> one number an item

SPEARMAN, NDCG = "cosine Spearman x 100", "nDCG@10 x 100"


@dataclass(frozen=True)
class SetResult:
    """A measured set. ``alike`` and ``queries`` hold, per item, the nDCG@10 of a query, or the cosine of a pair.

    ``people``: people's scores of the pairs, which the cosines are ranked against; None for search.
    """

    name: str
    task: str
    sha256: str
    count: int
    documents: int | None
    decides: bool
    alike: Cells
    queries: Cells = field(default_factory=dict)
    people: Floats | None = None

    @property
    def metric(self) -> str:
        """What a score is."""
        return NDCG if self.people is None else SPEARMAN

    def cells(self, side: Side) -> Cells:
        """The items' numbers of a side."""
        return self.alike if side == "alike" else self.queries

    def scores(self, side: Side) -> Scores:
        """Scores x 100 by exit and dim."""
        made: Scores = {}
        for (layers, dim), items in self.cells(side).items():
            made.setdefault(layers, {})[dim] = float(self.drawn(items[:, None], np.arange(len(items)))[0])
        return made

    def drawn(self, cells: Floats, items: npt.NDArray[np.intp]) -> Floats:
        """Scores x 100 of the columns of ``cells`` [items, cells] on a draw of the items."""
        if self.people is None:
            return np.asarray(100 * cells[items].mean(axis=0))
        return 100 * _correlation(rankdata(cells[items], axis=0), rankdata(self.people[items]))


def rounded(scores: Mapping[int, Mapping[int, float]]) -> Scores:
    """Scores as the manifest has them, to two decimals."""
    return {layers: {dim: round(score, 2) for dim, score in row.items()} for layers, row in scores.items()}


def digest(content: object) -> str:
    """SHA-256 of a set's texts and judgements, so that two figures are known to be of the same set."""
    return hashlib.sha256(json.dumps(content, ensure_ascii=False, sort_keys=True).encode()).hexdigest()


def _correlation(ranks: Floats, people: Floats) -> Floats:
    """Pearson's correlation of each column of ``ranks`` with ``people``; 0 where one of the two says nothing."""
    left, right = ranks - ranks.mean(axis=0), people - people.mean()
    norms = np.sqrt((left**2).sum(axis=0) * (right**2).sum())
    return np.asarray(np.divide(right @ left, norms, out=np.zeros(ranks.shape[1]), where=norms > 0))
