"""The model card's section of scores, written from what was measured."""

from __future__ import annotations

import re
from collections.abc import Mapping

from strata.model_store.bundle.manifest import Manifest
from strata.model_store.profiling.quality import QualityReport

_SECTION = re.compile(r"^## Scores\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def with_scores(card: str, manifest: Manifest, report: QualityReport) -> str:
    """The card with its section of scores replaced, or added at the end where it has none."""
    section = scores_section(manifest, report)
    if _SECTION.search(card):
        return _SECTION.sub(lambda _: section + "\n", card, count=1).rstrip("\n") + "\n"
    return f"{card.rstrip()}\n\n{section}".lstrip("\n")


def scores_section(manifest: Manifest, report: QualityReport) -> str:
    """Heading and tables in Markdown."""
    parts = ["## Scores\n"]
    parts += [
        f"{table.reference}: {table.reference_score:.1f} on {table.benchmark}.\n"
        for table in (manifest.quality, manifest.search)
        if table
    ]
    for sts in report.sts:
        parts += [f"{sts.name} ({sts.pairs} pairs), cosine Spearman x 100:\n", _dims_table(sts.scores)]
    for found in report.retrieval:
        counted = f"{found.name} ({found.queries} queries, {found.documents} documents), nDCG@10 x 100"
        parts += [f"{counted}, queries and documents at the same depth:\n", _dims_table(found.same_depth)]
        parts += [f"{counted}, queries at the exit, documents at full depth:\n", _dims_table(found.to_last)]
        if found.across:
            parts += [f"{counted}, full length, queries at the row's exit, documents at the column's:\n"]
            parts += [_table("queries at", list(found.across), found.across, "{:.1f}")]
    if manifest.agreement:
        parts += _agreement(manifest)
    return "\n".join(parts if len(parts) > 1 else [*parts, "Not measured.\n"])


def _agreement(manifest: Manifest) -> list[str]:
    found = manifest.agreement
    assert found is not None
    rows = {
        "mean": dict(zip(found.exits, found.mean[-1], strict=True)),
        "worst 1 %": dict(zip(found.exits, found.p01[-1], strict=True)),
    }
    shared = "; ".join(f"{' '.join(map(str, exits))} at {dim} dims" for dim, exits in found.sharing.items())
    return [
        f"Agreement with full depth (cosine, the mean vector taken out; {found.count} texts of {found.texts}):\n",
        _table("exit", list(found.exits), rows, "{:.3f}"),
        f"Exits that may share an index (mean >= {found.bar.mean}, worst 1 % >= {found.bar.p01}): {shared}.\n",
    ]


def _dims_table(scores: Mapping[int, Mapping[int, float]]) -> str:
    dims = list(next(iter(scores.values())))
    return _table("exit", dims, scores, "{:.1f}", " dims")


def _table(
    corner: str,
    columns: list[int],
    rows: Mapping[int, Mapping[int, float]] | Mapping[str, Mapping[int, float]],
    shape: str,
    unit: str = "",
) -> str:
    lines = [
        f"| {corner} | " + " | ".join(f"{column}{unit}" for column in columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, row in rows.items():
        cells = (shape.format(row[column]) if column in row else "" for column in columns)
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
