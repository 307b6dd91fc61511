"""Variants measured in turns within one run, so that a slow minute of the machine hits them all."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T")
Variant = Callable[[int], Awaitable[T]]  # called with the round's number, which picks its texts


def turns(names: list[str], rounds: int) -> Iterator[tuple[int, str]]:
    """(round, name) in order; each round starts with another name, so that no variant is always the first."""
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            yield number, name


async def interleave(
    variants: Mapping[str, Variant[T]], rounds: int, tell: Callable[[str, T], None]
) -> dict[str, list[T]]:
    """Results of every variant, one a round, told one by one as they come with the time that is left."""
    results: dict[str, list[T]] = {name: [] for name in variants}
    began, ordered = time.monotonic(), list(turns(list(variants), rounds))
    for done, (number, name) in enumerate(ordered, start=1):
        result = await variants[name](number)
        results[name].append(result)
        left = (time.monotonic() - began) / done * (len(ordered) - done)
        tell(f"round {number + 1}/{rounds}{f', {_short(left)} left' if left else ''}, {name}", result)
    return results


def _short(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
