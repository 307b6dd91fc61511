"""An exit is passed over only where the sets can tell that a shallower one is better."""

from __future__ import annotations

import numpy as np
import pytest

from strata.model_store.profiling.bootstrap import tell_apart
from strata.model_store.profiling.quality import measured_set
from strata.model_store.profiling.set_result import SetResult

QUERIES = 200
RANDOM = np.random.default_rng(5)
BASE = RANDOM.uniform(0.2, 0.9, QUERIES)  # nDCG of each query; they differ far more than exits do


def searched(name: str, *exits: np.ndarray, decides: bool = True) -> SetResult:
    cells = {(layers, 32): items for layers, items in enumerate(exits, start=1)}
    return SetResult(name, "search", "0" * 64, QUERIES, 900, decides, cells, dict(cells))


def noise(size: float) -> np.ndarray:
    return RANDOM.normal(0, size, QUERIES)


def test_a_small_loss_on_every_query_is_told_and_a_larger_one_on_few_is_not() -> None:
    steady = BASE - 0.01 + noise(0.02)
    chance = np.where(np.arange(QUERIES) < 3, BASE - 0.4, BASE) + noise(0.05)
    found = tell_apart([searched("a", BASE, steady, chance, BASE + 0.02)], {"a": 60.0})
    assert found.alike == {"search": {32: {2: 1}}}
    assert found.queries == found.alike
    assert (found.samples, found.confidence) == (1000, 0.95)


def test_all_sets_of_a_task_are_heard_and_none_that_is_only_told() -> None:
    """On one set exit 2 is worse, on the other as much better: no exit is passed over."""
    worse, better = searched("a", BASE, BASE - 0.05), searched("b", BASE, BASE + 0.05)
    references = {"a": 60.0, "b": 60.0}
    assert tell_apart([worse], references).alike == {"search": {32: {2: 1}}}
    assert tell_apart([worse, better], references).alike == {"search": {}}
    told = searched("b", BASE, BASE + 0.05, decides=False)
    assert tell_apart([worse, told], references).alike == {"search": {32: {2: 1}}}


def test_pairs_are_drawn_with_their_scores() -> None:
    people = RANDOM.uniform(0, 5, QUERIES)
    good = people + noise(0.5)
    cells = {(1, 8): good, (2, 8): people + noise(4.0), (3, 8): good + noise(0.01)}
    found = SetResult("pairs", "similarity", "0" * 64, QUERIES, None, True, cells, people=people)
    assert tell_apart([found], {"pairs": 90.0}, samples=200).alike == {"similarity": {8: {2: 1}}}


def test_a_set_that_the_source_model_fails_on_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"law: the source model scores -3.10 on it"):
        measured_set(searched("law", BASE), -3.1)
