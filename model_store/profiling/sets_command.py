"""``strata sets``: retrieval sets from pairs that training keeps out."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from strata.arguments import count
from strata.model_store.profiling.held_out import ONE_IN
from strata.model_store.profiling.made_sets import DOCUMENTS, QUERIES, make_set


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = (
        f"Make retrieval sets (BEIR folders, split test) from files of pairs. One query in {ONE_IN} is kept out of "
        "training by a hash of its text: these ask, and their passages answer, among other passages of the file. The "
        "same file gives the same set."
    )
    parser.add_argument("folder", type=Path, help="where the sets go, a folder each")
    parser.add_argument(
        "--pairs", action="append", required=True, metavar="[NAME=]FILE", help="tsv or jsonl of pairs; may be repeated"
    )
    parser.add_argument(
        "--queries", type=count, default=QUERIES, metavar="N", help="at most, of each set (%(default)s)"
    )
    parser.add_argument(
        "--documents",
        type=count,
        default=DOCUMENTS,
        metavar="N",
        help="likewise, but never fewer than answer the queries (%(default)s)",
    )


def _named(given: Sequence[str]) -> list[tuple[str, Path]]:
    """Name and file of each set. Raises ValueError for a name that no manifest takes, or that is there twice."""
    from strata.model_store.bundle.quality import SET_NAME, SET_NAME_TOLD

    found: dict[str, Path] = {}
    for each in given:
        name, equals, file = each.rpartition("=")
        name = name if equals else Path(file).stem
        if not re.fullmatch(SET_NAME, name):
            raise ValueError(f"--pairs {name[:100]!r}: {SET_NAME_TOLD}; give it another, as NAME=FILE")
        if name in found:
            raise ValueError(f"two sets are called {name}; give one of them another name, as NAME={file}")
        found[name] = Path(file)
    return list(found.items())


def run(args: argparse.Namespace) -> int:
    """Make the sets; the exit status."""
    try:
        for name, path in _named(args.pairs):
            made = make_set(path, args.folder / name, args.queries, args.documents)
            print(f"{made.name}: {made.queries} queries, {made.documents} documents")
    except (ValueError, OSError) as error:
        print(f"strata sets: {error}", file=sys.stderr)
        return 1
    return 0
