"""Real sentences of mixed lengths, the same on every machine with the same Python."""

from __future__ import annotations

import hashlib
import random
import re
from pathlib import Path
from pydoc_data.topics import topics

from strata.model_store.encoding.rows import text_rows

SHORTEST, LONGEST = 5, 60  # words of a default sentence
_SEED = 2402_14776
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_MARKUP = re.compile(r"\*\*|``|`|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)")


def load_texts(file: Path | None = None) -> list[str]:
    """Distinct texts in a seeded shuffle: the file's lines, or sentences of Python's own manual.

    Raises ValueError when the file is no text, or when fewer than 64 are left: repeating a few strings would measure
    something else.
    """
    found = _lines(file) if file else _manual_sentences()
    texts = sorted(set(found))
    if len(texts) < 64:
        raise ValueError(f"{file}: {len(texts)} distinct texts; at least 64 are needed")
    random.Random(_SEED).shuffle(texts)
    return texts


def digest(texts: list[str]) -> str:
    """12 hex digits that say whether two runs used the same texts."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def stretch(texts: list[str], start: int, count: int) -> list[str]:
    """``count`` texts from place ``start`` on, going round at the end."""
    return [texts[(start + i) % len(texts)] for i in range(count)]


def _lines(file: Path) -> list[str]:
    return [text for _, line in text_rows(file) if (text := line.strip())]


def _manual_sentences() -> list[str]:
    sentences = []
    for topic in topics.values():
        for paragraph in topic.split("\n\n"):
            plain = _MARKUP.sub("", " ".join(paragraph.split()))
            sentences += [s for s in _SENTENCE_END.split(plain) if _is_prose(s)]
    return sentences


def _is_prose(sentence: str) -> bool:
    """Whether it reads as a sentence: the manual also holds code, tables and grammar."""
    letters = sum(c.isalpha() or c.isspace() for c in sentence)
    return (
        SHORTEST <= len(sentence.split()) <= LONGEST
        and sentence[0].isupper()
        and sentence[-1] in ".!?"
        and letters >= 0.85 * len(sentence)
    )
