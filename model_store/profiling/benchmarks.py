"""Labelled sets named on a command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from strata.model_store.profiling.beir import RetrievalSet
    from strata.model_store.profiling.sts import StsPairs


def add_benchmark_arguments(parser: argparse._ActionsContainer) -> None:
    """Add ``--sts`` and ``--beir``."""
    parser.add_argument("--sts", action="append", default=[], metavar="[NAME=]FILE", help="measure on this STS tsv")
    parser.add_argument(
        "--beir", action="append", default=[], metavar="[NAME=]FOLDER[@SPLIT]", help="measure search here"
    )


@dataclass(frozen=True)
class Benchmarks:
    """What to measure a model on. The first of each kind is the manifest's, as shares of the original's score."""

    sts: Sequence[StsPairs] = ()
    retrieval: Sequence[RetrievalSet] = ()

    @classmethod
    def read(cls, args: argparse.Namespace) -> Self:
        """The sets that ``--sts`` and ``--beir`` name. Raises OSError or ValueError naming the file at fault."""
        from strata.model_store.profiling.beir import read_beir
        from strata.model_store.profiling.sts import read_sts

        searched = [(name, *path.partition("@")[::2]) for name, path in map(_named, args.beir)]
        return cls(
            sts=[read_sts(Path(path), name) for name, path in map(_named, args.sts)],
            retrieval=[read_beir(Path(path), split or "test", name) for name, path, split in searched],
        )


def _named(argument: str) -> tuple[str | None, str]:
    name, equals, path = argument.partition("=")
    return (name, path) if equals else (None, argument)
