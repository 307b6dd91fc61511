"""Variants measured in turns within one run, so that a slow minute of the machine hits them all."""

from __future__ import annotations

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
    """Results of every variant, one a round, told one by one as they come."""
    results: dict[str, list[T]] = {name: [] for name in variants}
    for number, name in turns(list(variants), rounds):
        result = await variants[name](number)
        results[name].append(result)
        tell(f"round {number + 1}/{rounds} {name}", result)
    return results
