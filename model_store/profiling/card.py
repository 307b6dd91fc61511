"""The model card's section of scores, written from what was measured."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.quality import SEARCH, SIMILARITY, MeasuredSet, Quality, Side, Worth, at_full_depth

_SECTION = re.compile(r"^## Scores\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_NAMED: dict[Side, str] = {"alike": "", "queries": "queries on full-depth documents"}


def with_scores(card: str, manifest: Manifest) -> str:
    """The card with its section of scores replaced, or added at the end where it has none."""
    section = scores_section(manifest)
    if _SECTION.search(card):
        return _SECTION.sub(lambda _: section + "\n", card, count=1).rstrip("\n") + "\n"
    return f"{card.rstrip()}\n\n{section}".lstrip("\n")


def scores_section(manifest: Manifest) -> str:
    """Heading and tables in Markdown."""
    parts = ["## Scores\n"]
    if manifest.quality:
        parts += _quality(manifest, manifest.quality)
    if manifest.agreement:
        parts += _agreement(manifest)
    return "\n".join(parts if len(parts) > 1 else [*parts, "Not measured.\n"])


def _quality(manifest: Manifest, quality: Quality) -> list[str]:
    layers, full = manifest.exits[-1], manifest.full_dim
    parts = [
        f"Shares of the score of {quality.reference} on the same set: the mean over the sets of a task, and the worst "
        f"of them. In {quality.dtype}, {full} dims.\n",
        _shares(manifest, quality),
        f"The same at {layers} layers, by dims:\n",
        _table("dims", _columns(quality), {dim: _cells(quality, layers, dim) for dim in manifest.dims}),
        *_variants(manifest, quality),
        "The sets:\n",
        _table(
            "set",
            ("task", "measure", "items", "documents", "source model", f"{layers} layers", "counts"),
            {name: _described(each, layers, full) for name, each in quality.sets.items()},
        ),
    ]
    base = "" if quality.reference == at_full_depth(manifest.name) else " and the source model in BASE"
    parts += [f"Checked, with each set's files at hand{base}, by\n", _command(manifest, quality, bool(base))]
    if apart := quality.told_apart:
        parts += [
            "An exit is passed over where a shallower one is ahead by more than the sets can tell apart: in at least "
            f"{apart.confidence:.0%} of {apart.samples} paired bootstrap draws of their pairs or queries.\n",
            "\n".join(_beaten(quality)) + "\n",
        ]
    for name, each in quality.sets.items():
        parts += [f"{name}, {each.metric}:\n", _scores(each.scores)]
        if each.queries:
            parts += [f"{name}, {each.metric}, {_NAMED['queries']}:\n", _scores(each.queries)]
    return parts


def _variants(manifest: Manifest, quality: Quality) -> list[str]:
    """What other dtypes and types of output keep at full depth."""
    columns: dict[str, list[Worth | None]] = {}
    for variant in quality.variants:
        kind = variant.dtype if variant.output_type == "float" else variant.output_type
        for side, task in _tables(quality):
            if side == "alike" and task in quality.tasks(side, variant.dtype, variant.output_type):
                columns[f"{task}, {kind}"] = [
                    quality.worth(task, manifest.exits[-1], dim, side, variant.dtype, variant.output_type)
                    for dim in manifest.dims
                ]
    if not columns:
        return []
    rows = {dim: [_percent(worths[at]) for worths in columns.values()] for at, dim in enumerate(manifest.dims)}
    return ["The same in other dtypes and types of output:\n", _table("dims", list(columns), rows)]


def _command(manifest: Manifest, quality: Quality, base: bool) -> str:
    """The line that works every figure out again; ``base``: as shares of another model's scores."""
    words = [f"strata profile {manifest.name} --check --no-latency --precision {quality.dtype}{' --base BASE' * base}"]
    for name, each in quality.sets.items():
        option, place = ("--sts", "FILE") if each.documents is None else ("--beir", "FOLDER")
        words.append(f'{option} "{each.task}:{name}={place}"' + ("" if each.decides else f' --tell-only "{name}"'))
    return "```sh\n" + " \\\n  ".join(words) + "\n```\n"


def _shares(manifest: Manifest, quality: Quality) -> str:
    rows = {layers: _cells(quality, layers, manifest.full_dim) for layers in manifest.query_exits}
    return _table("layers", _columns(quality), rows)


def _columns(quality: Quality) -> list[str]:
    names = []
    for side, task in _tables(quality):
        name = _NAMED[side] if side == "queries" and task == SEARCH else " ".join(filter(None, (task, _NAMED[side])))
        names += [name] if task == SIMILARITY else [name, f"{name}, worst set"]
    return names


def _cells(quality: Quality, layers: int, dim: int) -> list[str]:
    cells = []
    for side, task in _tables(quality):
        worth = quality.worth(task, layers, dim, side)
        cells += [_percent(worth)] if task == SIMILARITY else [_percent(worth), _worst(worth)]
    return cells


def _tables(quality: Quality) -> list[tuple[Side, str]]:
    sides: tuple[Side, ...] = ("alike", "queries")
    return [(side, task) for side in sides for task in quality.tasks(side)]


def _percent(worth: Worth | None) -> str:
    return "" if worth is None else f"{100 * worth.share:.1f} %"


def _worst(worth: Worth | None) -> str:
    return "" if worth is None else f"{100 * worth.worst:.1f} %, {worth.worst_set}"


def _described(each: MeasuredSet, layers: int, dim: int) -> list[str]:
    score = each.scores.get(layers, {}).get(dim)
    return [
        each.task,
        each.metric,
        str(each.count),
        str(each.documents or ""),
        f"{each.reference_score:.2f}",
        "" if score is None else f"{score:.2f}",
        "yes" if each.decides else "told only",
    ]


def _beaten(quality: Quality) -> list[str]:
    assert quality.told_apart is not None
    lines = []
    for side, task in _tables(quality):
        by_dim = {
            dim: beaten
            for dim in sorted({d for each in quality.sets.values() for row in each.scores.values() for d in row})
            if (beaten := quality.told_apart.beaten(task, side, dim))
        }
        told = "; ".join(
            f"{dim} dims: " + ", ".join(f"{deep} by {shallow}" for deep, shallow in beaten.items())
            for dim, beaten in by_dim.items()
        )
        lines.append(f"- {' '.join(filter(None, (task, _NAMED[side])))}: {told or 'none'}")
    return lines


def _agreement(manifest: Manifest) -> list[str]:
    found = manifest.agreement
    assert found is not None
    rows = {
        "mean": [f"{value:.3f}" for value in found.mean[-1]],
        "worst 1 %": [f"{value:.3f}" for value in found.p01[-1]],
    }
    shared = "; ".join(f"{' '.join(map(str, exits))} at {dim} dims" for dim, exits in found.sharing.items())
    return [
        f"Agreement with full depth (cosine, the mean vector taken out; {found.count} texts of {found.texts}):\n",
        _table("exit", [str(exit) for exit in found.exits], rows),
        f"Exits that may share an index (mean >= {found.bar.mean}, worst 1 % >= {found.bar.p01}): {shared}.\n",
    ]


def _scores(scores: Mapping[int, Mapping[int, float]]) -> str:
    dims = list(next(iter(scores.values())))
    rows = {layers: [f"{row[dim]:.2f}" if dim in row else "" for dim in dims] for layers, row in scores.items()}
    return _table("exit", [f"{dim} dims" for dim in dims], rows)


def _table(corner: str, columns: Sequence[str], rows: Mapping[int, Sequence[str]] | Mapping[str, Sequence[str]]) -> str:
    lines = [f"| {corner} | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()]
    return "\n".join(lines) + "\n"
