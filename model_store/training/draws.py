"""What a step sees: texts drawn from the sources by (seed, step) alone, so that a run can resume anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from strata.model_store.training.recipe import Recipe
from strata.model_store.training.sources import GroupSource, LineSource

_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+")
_QUERY_CHARS = (25, 220)  # a sentence this long can stand as a query
_JOINED_CHARS = (300, 1300)  # how long a passage made of short lines becomes
_FEW = 3  # sources of each kind that a step keeps to in its draws from a few

T = TypeVar("T")
Indices = npt.NDArray[np.int64]


class _Choice:
    """Chooses among sources by weight times the root of their size, so that neither large nor small files drown the
    others; ``few`` are those a step keeps to."""

    def __init__(self, weights: Sequence[float], counts: Sequence[int]) -> None:
        self._shares = np.asarray(weights, dtype=np.float64) * np.sqrt(counts)

    def __bool__(self) -> bool:
        return bool(self._shares.sum() > 0)

    def few(self, rng: np.random.Generator) -> Indices:
        """Indices of a few sources, drawn by weight."""
        shares = self._shares / self._shares.sum()
        size = min(_FEW, int(np.count_nonzero(shares)))
        return rng.choice(len(shares), size=size, replace=False, p=shares)

    def one(self, rng: np.random.Generator, among: Indices | None) -> int:
        """Index of a source, of all or among a few."""
        heaped = np.cumsum(self._shares if among is None else self._shares[among])
        at = int(np.searchsorted(heaped, rng.random() * heaped[-1], side="right"))
        return at if among is None else int(among[at])


@dataclass
class Draws:
    """Draws texts from sources; the same recipe, sources and step always give the same texts."""

    recipe: Recipe
    lines: Sequence[LineSource]
    groups: Sequence[GroupSource]
    _long: list[list[int]] = field(init=False, repr=False)
    _short: list[list[int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        recipe, limit = self.recipe, self.recipe.passage_chars
        self._long = [[i for i, line in enumerate(s.lines) if len(line) >= limit] for s in self.lines]
        self._short = [[i for i, line in enumerate(s.lines) if len(line) < limit] for s in self.lines]
        line_weights, group_weights = [s.weight for s in self.lines], [s.weight for s in self.groups]
        long, short = (_Choice(line_weights, [len(rows) for rows in kept]) for kept in (self._long, self._short))
        choices = (
            (recipe.passages * (1 - recipe.joined_share), long, self._passage),
            (recipe.passages * recipe.joined_share, short, self._joined),
            (recipe.short_texts, short, self._short_text),
            (recipe.groups, _Choice(group_weights, [len(s.groups) for s in self.groups]), self._group),
        )
        self._kinds = [(often, choice, draw) for often, choice, draw in choices if often and choice]
        if not self._kinds:
            raise ValueError("no training data: name at least one file of texts or of pairs that the recipe draws from")

    @property
    def described(self) -> list[str]:
        """One line a source: a run resumed on other sources would not be the same run."""
        counted = [(s.name, len(s.lines), s.weight, s.sha256) for s in self.lines]
        counted += [(s.name, len(s.groups), s.weight, s.sha256) for s in self.groups]
        return [f"{name}: {rows} rows, weight {weight:g}, sha256 {digest}" for name, rows, weight, digest in counted]

    def texts(self, step: int) -> Iterator[str]:
        """The texts of one step, without end and without repeats (but for sources that are drawn dry)."""
        rng = np.random.default_rng((self.recipe.seed, step))
        few = [choice.few(rng) for _, choice, _ in self._kinds]
        often = np.cumsum([often for often, _, _ in self._kinds])
        drawn: set[str] = set()
        vain = 0  # draws in a row that gave nothing new
        while vain < 1000:
            kind = int(np.searchsorted(often, rng.random() * often[-1], side="right"))
            _, choice, draw = self._kinds[kind]
            at = choice.one(rng, few[kind] if rng.random() < self.recipe.few_sources else None)
            new = [text for text in dict.fromkeys(draw(rng, at)) if text not in drawn]
            vain = 0 if new else vain + 1
            drawn.update(new)
            yield from new

    def _short_text(self, rng: np.random.Generator, at: int) -> list[str]:
        return [self.lines[at].lines[_one(rng, self._short[at])]]

    def _passage(self, rng: np.random.Generator, at: int) -> list[str]:
        return _with_query(self.lines[at].lines[_one(rng, self._long[at])], rng)

    def _group(self, rng: np.random.Generator, at: int) -> list[str]:
        group = _one(rng, self.groups[at].groups)
        if rng.random() < self.recipe.titled_share:
            return _with_query(f"{group[0]} {group[1]}", rng)
        return list(group)

    def _joined(self, rng: np.random.Generator, at: int) -> list[str]:
        lines, size = self.lines[at].lines, int(rng.integers(*_JOINED_CHARS))
        start = _one(rng, self._short[at])
        joined = lines[start]
        for line in lines[start + 1 : start + 40]:
            if len(joined) >= size:
                break
            joined += (" " if joined[-1] in ".!?;" else ". ") + line
        return _with_query(joined, rng)


def _one(rng: np.random.Generator, rows: Sequence[T]) -> T:
    return rows[int(rng.integers(len(rows)))]


def _with_query(passage: str, rng: np.random.Generator) -> list[str]:
    """The passage and one of its sentences; half the time the sentence is taken out of the passage."""
    sentences = _SENTENCE_END.split(passage)
    fit = [i for i, s in enumerate(sentences) if _QUERY_CHARS[0] <= len(s) <= _QUERY_CHARS[1]]
    if not fit:
        words = passage.split()
        start = int(rng.integers(max(1, len(words) - 12)))
        return [passage, " ".join(words[start : start + 12])]
    at = int(rng.choice(fit))
    if len(sentences) > 2 and rng.random() < 0.5:
        passage = " ".join(s for i, s in enumerate(sentences) if i != at)
    return [passage, sentences[at]]
