"""Labelled sets named on a command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from strata.model_store.profiling.beir import RetrievalSet
    from strata.model_store.profiling.sts import StsPairs


_ARGUMENT = re.compile(r"(?:(?:(?P<task>[a-z][a-z0-9_-]*):)?(?P<name>[^=:/]+)=)?(?P<path>.+)", re.DOTALL)


def add_benchmark_arguments(parser: argparse._ActionsContainer) -> None:
    """Add ``--sts``, ``--beir`` and ``--tell-only``."""
    parser.add_argument(
        "--sts",
        action="append",
        default=[],
        metavar="[[TASK:]NAME=]FILE",
        help="pairs of texts with scores; their task is `similarity` unless another is named; may be repeated",
    )
    parser.add_argument(
        "--beir",
        action="append",
        default=[],
        metavar="[[TASK:]NAME=]FOLDER[@SPLIT]",
        help="a BEIR folder, split test unless named; its task is `search` unless another is named; may be repeated",
    )
    parser.add_argument(
        "--tell-only",
        action="append",
        default=[],
        metavar="NAME",
        help="a set that is measured and told, but is part of no share and no choice, as a test split should be",
    )


@dataclass(frozen=True)
class Benchmarks:
    """What to measure a model on."""

    sts: Sequence[StsPairs] = ()
    retrieval: Sequence[RetrievalSet] = ()

    def __bool__(self) -> bool:
        return bool(self.sts or self.retrieval)

    @property
    def characters(self) -> int:
        """Of all texts, each counted once: what there is to do."""
        pairs = sum(len(text) for each in self.sts for text in (*each.first, *each.second))
        sides = [side for each in self.retrieval for side in (each.queries, each.documents)]
        return pairs + sum(len(text) for side in sides for text in side.values())

    @classmethod
    def read(cls, args: argparse.Namespace) -> Self:
        """The sets that the options name. Raises OSError or ValueError naming the file or option at fault."""
        from strata.model_store.bundle.quality import SEARCH, SIMILARITY
        from strata.model_store.profiling.beir import read_beir
        from strata.model_store.profiling.sts import read_sts

        sts, retrieval = [], []
        for task, name, path in map(_parted, args.sts):
            sts.append(replace(read_sts(Path(path), name), task=task or SIMILARITY))
        for task, name, path in map(_parted, args.beir):
            folder, split = _split(path)
            retrieval.append(replace(read_beir(folder, split, name), task=task or SEARCH))
        names = [each.name for each in sts] + [each.name for each in retrieval]
        for pairs in sts:
            _refuse_unwritable("--sts", pairs.name, pairs.task)
        for data in retrieval:
            _refuse_unwritable("--beir", data.name, data.task)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two sets are called {twice[0]}; give one of them another name, as NAME={twice[0]}")
        if unknown := sorted(set(args.tell_only) - set(names)):
            raise ValueError(f"--tell-only {unknown[0]}: the sets are {', '.join(names) or 'none'}")
        return cls(
            [replace(each, decides=each.name not in args.tell_only) for each in sts],
            [replace(each, decides=each.name not in args.tell_only) for each in retrieval],
        )


def _refuse_unwritable(option: str, name: str, task: str) -> None:
    """Refuse what no manifest takes, before all is measured. Raises ValueError."""
    from strata.model_store.bundle.quality import SET_NAME, SET_NAME_TOLD, TASK, TASK_TOLD

    if not re.fullmatch(SET_NAME, name):
        raise ValueError(f"{option} {name[:100]!r}: {SET_NAME_TOLD}; give it another, as NAME=PATH")
    if not re.fullmatch(TASK, task):
        raise ValueError(f"{option} {task[:100]!r}: {TASK_TOLD}")


def _parted(argument: str) -> tuple[str | None, str | None, str]:
    found = _ARGUMENT.fullmatch(argument)
    if found is None:
        raise ValueError("--sts and --beir need a file or folder")
    return found["task"], found["name"], found["path"]


def _split(path: str) -> tuple[Path, str]:
    """``FOLDER`` or ``FOLDER@SPLIT``; folders may have an @ in their names, too."""
    folder, at, split = path.rpartition("@")
    if not at or "/" in split or Path(path).exists():
        return Path(path), "test"
    return Path(folder), split or "test"
