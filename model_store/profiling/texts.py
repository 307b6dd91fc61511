"""Unlabelled text to compare exits on: a file's lines, or prose of Python's own manual, which every machine has."""

from __future__ import annotations

import platform
import random
import re
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

from strata.model_store.encoding.rows import text_rows

COUNT = 800
_SEED = 2605_01058
_FEWEST = 20
_WORDS = (4, 250)  # of a text of the manual
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_MARKUP = re.compile(r"\*\*|``|`|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)")


@dataclass(frozen=True)
class Texts:
    """Distinct texts in a seeded shuffle, and what to call them."""

    name: str
    lines: list[str]


def read_texts(files: list[Path], count: int = COUNT) -> Texts:
    """``count`` texts, drawn alike from every file; from Python's manual where there is none.

    Raises ValueError when fewer than 20 are there or wanted, or a file is no text.
    """
    if count < _FEWEST:
        raise ValueError(f"{count} texts tell too little; at least {_FEWEST} are needed")
    if not files:
        return Texts(f"Python {platform.python_version()}'s manual", _drawn(_manual(), count))
    share = -(-count // len(files))
    lines = [line for file in files for line in _drawn([line for _, line in text_rows(file)], share)]
    if len(set(lines)) < _FEWEST:
        raise ValueError(f"{', '.join(map(str, files))}: {len(set(lines))} distinct texts; {_FEWEST} are needed")
    return Texts(", ".join(file.name for file in files), _drawn(lines, count))


def _drawn(lines: list[str], count: int) -> list[str]:
    found = sorted({line.strip() for line in lines} - {""})
    random.Random(_SEED).shuffle(found)
    return found[:count]


def _manual() -> list[str]:
    """Sentences and, as search is over longer texts, paragraphs."""
    found = []
    for topic in topics.values():
        for paragraph in topic.split("\n\n"):
            plain = _MARKUP.sub("", " ".join(paragraph.split()))
            found += [text for text in (*_SENTENCE_END.split(plain), plain) if _is_prose(text)]
    return found


def _is_prose(text: str) -> bool:
    """Whether it reads as sentences: the manual also holds code, tables and grammar."""
    letters = sum(c.isalpha() or c.isspace() for c in text)
    short, long = _WORDS
    return (
        short <= len(text.split()) <= long and text[0].isupper() and text[-1] in ".!?" and letters >= 0.85 * len(text)
    )
