"""A measurement beside what the manifest, or a server, says: the largest difference, and where it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from strata.model_store.bundle.measured import Agreement
from strata.model_store.bundle.quality import Quality, Scored
from strata.model_store.profiling.references import References
from strata.model_store.profiling.set_result import SetResult

Scores = Mapping[int, Mapping[int, float]]
TOLERANCE = 0.2  # points of a score x 100


@dataclass(frozen=True)
class Difference:
    """The largest difference within one table, in points (score or cosine x 100)."""

    table: str
    cells: int
    points: float
    where: str

    @property
    def reproduced(self) -> bool:
        """Whether it is within 0.2 points."""
        return self.points <= TOLERANCE

    def __str__(self) -> str:
        verdict = "reproduced" if self.reproduced else f"DIFFERS by more than {TOLERANCE}"
        return f"{self.table}: {verdict}; of {self.cells} figures at most {self.points:.2f} apart ({self.where})"


def compare(table: str, told: Scores, found: Scores, row: str = "exit", column: str = "dims") -> Difference | None:
    """The largest difference over the cells that both have; None where there are none."""
    cells = [
        (abs(told[i][j] - value), f"{row} {i}, {column} {j}: {told[i][j]:.2f} told, {value:.2f} measured")
        for i, line in found.items()
        for j, value in line.items()
        if j in told.get(i, {})
    ]
    return Difference(table, len(cells), *max(cells)) if cells else None


def compare_sets(told: Mapping[str, Scored], found: Sequence[SetResult], what: str = "") -> list[Difference]:
    """The tables of the sets that both have."""
    results = []
    for each in found:
        if each.name in told:
            scored = told[each.name]
            results.append(compare(f"{each.name}, {each.task}{what}", scored.scores, each.scores("alike")))
            deep = f"{each.name}, queries on full-depth documents{what}"
            results.append(compare(deep, scored.queries, each.scores("queries")))
    return [result for result in results if result]


def compare_references(told: Quality, found: References) -> list[Difference]:
    """The source model's own scores, as the manifest has them and as they were worked out again."""
    results = []
    for name, score in found.scores.items():
        if name in told.sets:
            known = told.sets[name].reference_score
            where = f"{known:.2f} told, {score:.2f} measured"
            results.append(Difference(f"{name}, {found.name}", 1, abs(known - score), where))
    return results


def other_sets(told: Quality, found: Sequence[SetResult]) -> list[str]:
    """Sets whose texts or judgements are not those that the manifest's figures are of."""
    return [each.name for each in found if each.name in told.sets and told.sets[each.name].sha256 != each.sha256]


def compare_agreement(told: Agreement, found: Agreement) -> list[Difference]:
    """Both matrices, if they are of the same texts."""
    if (told.texts, told.count) != (found.texts, found.count):
        return []
    return [
        result
        for name in ("mean", "p01")
        if (result := compare(f"agreement, {name}", _points(told, name), _points(found, name), "exit", "exit"))
    ]


def _points(agreement: Agreement, name: str) -> dict[int, dict[int, float]]:
    rows = (dict(zip(agreement.exits, (100 * value for value in row), strict=True)) for row in getattr(agreement, name))
    return dict(zip(agreement.exits, rows, strict=True))
