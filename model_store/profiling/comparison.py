"""A measurement beside what the manifest, or a server, says: the largest difference, and where it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.measured import Agreement
from strata.model_store.profiling.quality import QualityReport

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


def compare_tables(told: Manifest, found: Manifest, measured: QualityReport) -> list[Difference]:
    """The manifest's own tables, where ``measured`` has their benchmark."""
    pairs = [(told.quality, found.quality if measured.sts else None)]
    pairs.append((told.search, found.search if measured.retrieval else None))
    results = [
        compare(f"manifest, {old.benchmark}", old.scores, new.scores)
        for old, new in pairs
        if old and new and old.benchmark == new.benchmark
    ]
    return [result for result in results if result]


def compare_reports(told: QualityReport, found: QualityReport) -> list[Difference]:
    """Every table of ``found`` that ``told`` has too, by the names of the sets."""
    sts = {result.name: result for result in told.sts}
    results = [
        compare(f"{result.name}, similarity", sts[result.name].scores, result.scores)
        for result in found.sts
        if result.name in sts
    ]
    searches = {result.name: result for result in told.retrieval}
    for search in found.retrieval:
        if search.name in searches:
            known = searches[search.name]
            results += [
                compare(f"{search.name}, same depth", known.same_depth, search.same_depth),
                compare(f"{search.name}, documents at full depth", known.to_last, search.to_last),
                compare(f"{search.name}, across exits", known.across, search.across, "queries", "documents"),
            ]
    return [result for result in results if result]


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
