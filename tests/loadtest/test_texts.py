"""The default corpus is real text of mixed lengths, the same every time."""

from __future__ import annotations

from pathlib import Path
from statistics import quantiles

import pytest

from strata.loadtest.texts import LONGEST, SHORTEST, digest, load_texts, stretch


def test_the_default_texts_are_distinct_sentences_of_mixed_lengths() -> None:
    texts = load_texts()
    words = [len(text.split()) for text in texts]
    assert len(texts) == len(set(texts)) > 1000
    assert min(words) >= SHORTEST
    assert max(words) <= LONGEST
    tenths = quantiles(words, n=10)
    assert tenths[8] > 2.5 * tenths[0]


def test_the_order_is_shuffled_and_the_same_every_time() -> None:
    texts = load_texts()
    assert texts == load_texts()
    assert texts != sorted(texts)


def test_a_file_gives_its_distinct_lines(tmp_path: Path) -> None:
    file = tmp_path / "texts"
    lines = [f"text number {i}" for i in range(100)]
    file.write_text("\n\n".join([*lines, lines[0], "  "]), encoding="utf-8")
    assert sorted(load_texts(file)) == sorted(lines)


def test_a_few_repeated_strings_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "texts"
    file.write_text("the same\n" * 1000, encoding="utf-8")
    with pytest.raises(ValueError, match="at least 64"):
        load_texts(file)


def test_a_stretch_goes_round_at_the_end() -> None:
    assert stretch(["a", "b", "c"], 2, 4) == ["c", "a", "b", "c"]


def test_the_digest_tells_texts_apart() -> None:
    assert digest(["a", "b"]) != digest(["b", "a"])
