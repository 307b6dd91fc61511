"""What a step sees: texts drawn from the sources by (seed, step) alone, so that a run can resume anywhere."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from strata.model_store.training.recipe import Recipe
from strata.model_store.training.sources import GroupSource, LineSource

_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+")
_QUERY_CHARS = (25, 220)  # a sentence this long can stand as a query
_JOINED_CHARS = (300, 1300)  # how long a passage made of short lines becomes


@dataclass
class Draws:
    """Draws texts from sources; the same recipe, sources and step always give the same texts."""

    recipe: Recipe
    lines: Sequence[LineSource]
    groups: Sequence[GroupSource]
    _long: list[list[int]] = field(init=False, repr=False)
    _short: list[list[int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        limit = self.recipe.passage_chars
        self._long = [[i for i, line in enumerate(s.lines) if len(line) >= limit] for s in self.lines]
        self._short = [[i for i, line in enumerate(s.lines) if len(line) < limit] for s in self.lines]
        if not self.lines and not self.groups:
            raise ValueError("no training data: name at least one file of texts or of pairs")

    @property
    def described(self) -> list[str]:
        """One line a source: a run resumed on other sources would not be the same run."""
        counted = [(s.name, len(s.lines), s.weight) for s in self.lines]
        counted += [(s.name, len(s.groups), s.weight) for s in self.groups]
        return [f"{name}: {count} rows, weight {weight:g}" for name, count, weight in counted]

    def texts(self, step: int) -> list[str]:
        """The texts of one step, without repeats: passages and their queries, short texts, groups."""
        rng = np.random.default_rng((self.recipe.seed, step))
        drawn: list[str] = []
        for _ in range(self.recipe.passages):
            drawn += self._passage(rng)
        for _ in range(self.recipe.short_texts):
            drawn += self._short_text(rng)
        for _ in range(self.recipe.groups):
            if self.groups:
                source = self.groups[_choose(rng, [_share(s.weight, len(s.groups)) for s in self.groups])]
                drawn += source.groups[rng.integers(len(source.groups))]
        return list(dict.fromkeys(drawn))

    def _short_text(self, rng: np.random.Generator) -> list[str]:
        weights = self._shares(self._short)
        if not any(weights):
            return []
        at = _choose(rng, weights)
        return [self.lines[at].lines[self._short[at][rng.integers(len(self._short[at]))]]]

    def _passage(self, rng: np.random.Generator) -> list[str]:
        if rng.random() < self.recipe.joined_share and any(self._short):
            return _with_query(self._joined(rng), rng)
        weights = self._shares(self._long)
        if not any(weights):
            return []
        at = _choose(rng, weights)
        return _with_query(self.lines[at].lines[self._long[at][rng.integers(len(self._long[at]))]], rng)

    def _shares(self, kept: list[list[int]]) -> list[float]:
        return [_share(source.weight, len(rows)) for source, rows in zip(self.lines, kept, strict=True)]

    def _joined(self, rng: np.random.Generator) -> str:
        at = _choose(rng, self._shares(self._short))
        lines, size = self.lines[at].lines, int(rng.integers(*_JOINED_CHARS))
        start = self._short[at][rng.integers(len(self._short[at]))]
        joined = lines[start]
        for line in lines[start + 1 : start + 40]:
            if len(joined) >= size:
                break
            joined += (" " if joined[-1] in ".!?;" else ". ") + line
        return joined


def _share(weight: float, count: int) -> float:
    """A file's share of the draws: by the root of its size, so that neither large nor small files drown the others."""
    return weight * math.sqrt(count)


def _choose(rng: np.random.Generator, weights: Sequence[float]) -> int:
    shares = np.asarray(weights, dtype=np.float64)
    return int(rng.choice(len(shares), p=shares / shares.sum()))


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
