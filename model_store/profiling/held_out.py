"""Pairs that training keeps out, so that search can be measured on them: decided by the query's text alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

ONE_IN = 16  # queries that are kept out

Row = TypeVar("Row", bound=Sequence[str])


def is_held_out(query: str) -> bool:
    """Whether training keeps out the pairs that begin with ``query``: by a hash of its lower-case words."""
    words = " ".join(query.lower().split())
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "big") % ONE_IN == 0


def split_held_out(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Pairs (or triplets) of one file as (for training, held out), each in the file's order.

    A row is held out where its first text is; neither are its other texts trained on from another row of the file.
    """
    held = [row for row in rows if is_held_out(row[0])]
    unseen = {text for row in held for text in row[1:]}
    kept = [row for row in rows if not is_held_out(row[0]) and unseen.isdisjoint(row)]
    return kept, held
