"""Percentiles, ratios over rounds, and bars."""

from __future__ import annotations

import random

import numpy as np
import pytest

from strata.loadtest.figures import Figure, median_ratio, percentile
from strata.loadtest.report import shown


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.99, 1.0])
@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_percentiles_are_numpys(count: int, share: float) -> None:
    values = [random.Random(count).expovariate(1.0) for _ in range(count)]
    assert percentile(values, share) == pytest.approx(np.quantile(values, share))


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


def test_a_slow_round_falls_out_of_the_ratio() -> None:
    assert median_ratio([1.0, 10.0, 1.0], [2.0, 20.0, 2.0]) == 0.5
    assert median_ratio([1.0, 1.0, 9.0], [2.0, 2.0, 2.0]) == 0.5


def test_bars_are_held_from_the_right_side() -> None:
    assert Figure("a", 0.5, at_most=0.5).met is True
    assert Figure("a", 0.51, at_most=0.5).met is False
    assert Figure("a", 6.0, at_least=6).met is True
    assert Figure("a", 5.9, at_least=6).met is False
    assert Figure("a", 1.0).met is None


def test_a_row_says_what_was_missed() -> None:
    assert shown(Figure("time", 0.61, at_most=0.55)) == ("time", "0.61", "<= 0.55", "MISSED")
    assert shown(Figure("rate", 1234.5, "texts/s")) == ("rate", "1234 texts/s", "", "")
