"""Training text on disk: plain lines, pairs and triplets, read once into memory."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from strata.model_store.bundle.bundle import file_sha256
from strata.model_store.encoding.pairs import Group, read_pairs
from strata.model_store.encoding.rows import text_rows
from strata.model_store.profiling.held_out import split_held_out


@dataclass(frozen=True)
class LineSource:
    """One plain-text file. ``lines`` in file order; ``weight`` is its share of the draws among files of its kind."""

    name: str
    lines: list[str]
    weight: float = 1.0
    sha256: str = ""  # of the file


@dataclass(frozen=True)
class GroupSource:
    """One file of pairs or triplets."""

    name: str
    groups: list[Group]
    weight: float = 1.0
    sha256: str = ""  # of the file


def parse_source(argument: str) -> tuple[Path, float]:
    """``PATH`` or ``PATH@WEIGHT``. Raises ValueError for a weight that is not a finite number above 0."""
    path, at, weight = argument.rpartition("@")
    if not at or "/" in weight or Path(argument).exists():
        return Path(argument), 1.0
    try:
        value = float(weight)
    except ValueError:
        value = 0.0
    if not (isfinite(value) and value > 0):
        raise ValueError(f"{argument}: the part after @ must be a weight, a finite number above 0")
    return Path(path), value


def read_lines(path: Path, weight: float = 1.0) -> LineSource:
    """A text file, one passage a line; blank lines are skipped. Raises ValueError naming file and row."""
    lines = [text for _, line in text_rows(path) if (text := " ".join(line.split()))]
    if not lines:
        raise ValueError(f"{path}: no text in it")
    return LineSource(path.name, lines, weight, file_sha256(path))


def read_groups(path: Path, weight: float = 1.0) -> GroupSource:
    """Pairs or triplets (`read_pairs`), but for those held out, on which search is measured. Raises ValueError."""
    kept, _ = split_held_out(read_pairs(path))
    if not kept:
        raise ValueError(f"{path}: no rows in it that are not held out")
    return GroupSource(path.name, kept, weight, file_sha256(path))
