"""Agreement is of directions about one common mean, and exits share an index only if all of them agree."""

from __future__ import annotations

import numpy as np
import pytest

from strata.model_store.bundle.measured import Bar
from strata.model_store.encoding.reference import Vectors, unit
from strata.model_store.profiling.agreement import measure_agreement

DIM = 24


def draw(seed: int, count: int = 400) -> Vectors:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


def test_the_same_vectors_agree_and_unrelated_ones_do_not() -> None:
    found = measure_agreement({1: draw(0), 3: draw(1), 4: 5 * draw(1)}, (8, DIM), "noise")
    assert found.exits == (1, 3, 4)
    assert found.count == 400
    np.testing.assert_allclose(found.mean[1], (found.mean[0][1], 1, 1), atol=1e-4)
    assert abs(found.mean[0][2]) < 0.1
    assert found.p01[0][2] < -0.3
    np.testing.assert_array_equal(found.mean, np.transpose(found.mean))
    assert found.sharing == {8: (3, 4), DIM: (3, 4)}


def test_a_part_common_to_all_texts_does_not_count_as_agreement() -> None:
    common = 4 * np.ones(DIM, np.float32)
    first, last = draw(0) + common, draw(1) + common
    plain = float((unit(first, DIM) * unit(last, DIM)).sum(axis=1).mean())
    assert plain > 0.9
    assert measure_agreement({1: first, 2: last}, (DIM,), "noise").mean[0][1] < 0.1


def test_a_shift_of_one_exit_against_the_other_counts_against_it() -> None:
    last = draw(1)
    shifted = last + 2 * np.ones(DIM, np.float32)
    assert measure_agreement({1: shifted, 2: last}, (DIM,), "noise").mean[0][1] < 0.8


def test_the_worst_percentile_is_of_texts() -> None:
    last = draw(2)
    first = last.copy()
    first[:8] = draw(3)[:8]  # 2 % of the texts say something else
    found = measure_agreement({1: first, 2: last}, (DIM,), "noise")
    assert found.mean[0][1] > 0.97
    assert found.p01[0][1] < 0.5
    assert found.sharing[DIM] == (2,)


def test_exits_share_an_index_only_if_each_agrees_with_every_other() -> None:
    last, noise = draw(4), draw(5)
    below, above = last + 0.5 * noise, last - 0.5 * noise  # each near the last, far from one another
    bar = Bar(mean=0.85, p01=0.7)
    apart = measure_agreement({1: below, 2: above, 3: last}, (DIM,), "noise", bar)
    assert min(apart.mean[0][2], apart.mean[1][2]) > bar.mean > apart.mean[0][1]
    assert apart.sharing[DIM] == (2, 3)
    assert apart.bar == bar


def test_short_vectors_may_agree_less_than_long_ones() -> None:
    last = draw(6)
    first = last.copy()
    first[:, :4] += 1.5 * draw(7)[:, :4]
    found = measure_agreement({1: first, 2: last}, (4, DIM), "noise", Bar(mean=0.7, p01=0.2))
    assert found.sharing == {4: (2,), DIM: (1, 2)}
    with pytest.raises(ValueError, match="a row and a column"):
        type(found).model_validate({**found.model_dump(), "mean": ((1.0,),)})
