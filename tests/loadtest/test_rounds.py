"""Variants take turns, and no one is always first."""

from __future__ import annotations

import asyncio

from strata.loadtest.rounds import interleave, turns


def test_every_variant_has_one_turn_a_round() -> None:
    found = list(turns(["a", "b", "c"], 4))
    for number in range(4):
        assert sorted(name for n, name in found if n == number) == ["a", "b", "c"]
    assert [n for n, _ in found] == sorted(n for n, _ in found)


def test_each_round_starts_with_another_variant() -> None:
    found = list(turns(["a", "b", "c"], 3))
    assert [found[0][1], found[3][1], found[6][1]] == ["a", "b", "c"]


def test_results_keep_their_variant_and_round() -> None:
    told: list[str] = []

    async def variant(name: str, number: int) -> str:
        return f"{name}{number}"

    results = asyncio.run(
        interleave(
            {"a": lambda n: variant("a", n), "b": lambda n: variant("b", n)}, 2, lambda name, _: told.append(name)
        )
    )
    assert results == {"a": ["a0", "a1"], "b": ["b0", "b1"]}
    assert told == [
        "round 1/2, 0 s left, a",
        "round 1/2, 0 s left, b",
        "round 2/2, 0 s left, b",
        "round 2/2, a",
    ]
