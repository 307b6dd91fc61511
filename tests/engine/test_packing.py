"""Packs hold every row once, with little padding, and re-pack without mixing rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.app.engine.attention import attention_bias
from strata.app.engine.batch import Row
from strata.app.engine.packing import EMPTY, make_packs

ROWS = st.lists(st.tuples(st.integers(1, 90), st.integers(1, 4)), min_size=1, max_size=40)


def rows_of(shapes: list[tuple[int, int]]) -> list[Row]:
    return [Row(np.full(length, i, np.int32), layers, 8) for i, (length, layers) in enumerate(shapes)]


@settings(deadline=None)
@given(ROWS, st.sampled_from([1, 16, 64, 256]), st.sampled_from([1, 32, 256]))
def test_every_token_has_exactly_one_place(shapes: list[tuple[int, int]], pack_tokens: int, bin_width: int) -> None:
    rows = rows_of(shapes)
    seen: list[int] = []
    for pack in make_packs(rows, pack_tokens=pack_tokens, bin_width=bin_width):
        owners = pack.owners()
        ids = pack.spread([rows[i].tokens for i in pack.rows], EMPTY)
        assert pack.tokens <= pack_tokens or len(pack.rows) == 1
        for slot, i in enumerate(pack.rows):
            mine = np.flatnonzero(owners == slot)
            assert len(mine) == len(rows[i].tokens)
            assert mine[0] // pack.width == mine[-1] // pack.width, "a row lies in one bin"
            assert (ids[mine] == i).all()
        assert (ids[owners == EMPTY] == EMPTY).all()
        seen += pack.rows
    assert sorted(seen) == list(range(len(rows)))


@settings(deadline=None)
@given(ROWS, st.data())
def test_keeping_rows_moves_their_tokens_and_no_others(shapes: list[tuple[int, int]], data: st.DataObject) -> None:
    rows = rows_of(shapes)
    pack = next(iter(make_packs(rows, pack_tokens=10_000, bin_width=64)))
    slots = sorted(data.draw(st.sets(st.integers(0, len(pack.rows) - 1), min_size=1)))
    before = pack.spread([rows[i].tokens for i in pack.rows], EMPTY)
    kept, source = pack.keep(slots)
    assert kept.rows == [pack.rows[s] for s in slots]
    moved = np.where(kept.owners() == EMPTY, EMPTY, before[source])
    np.testing.assert_array_equal(moved, kept.spread([rows[i].tokens for i in kept.rows], EMPTY))


def test_real_lengths_are_packed_with_little_padding() -> None:
    draw = np.random.default_rng(0)
    rows = rows_of([(int(n), 4) for n in draw.gamma(3, 11, 400).clip(4, 120)])
    packs = list(make_packs(rows, pack_tokens=256, bin_width=64))
    places, tokens = sum(p.places for p in packs), sum(p.tokens for p in packs)
    assert places < 1.15 * tokens


def test_a_row_sees_itself_alone() -> None:
    pack = next(iter(make_packs(rows_of([(3, 1), (5, 1), (2, 1)]), pack_tokens=64, bin_width=64)))
    bias = attention_bias(pack)
    assert bias is not None
    owners = pack.owners().reshape(pack.bins, pack.width)
    for b in range(pack.bins):
        same = owners[b][:, None] == owners[b][None, :]
        np.testing.assert_array_equal(np.isfinite(bias[b, 0]), same)


def test_equal_rows_need_no_mask() -> None:
    pack = next(iter(make_packs(rows_of([(7, 1)] * 5), pack_tokens=64, bin_width=64)))
    assert pack.tokens == pack.places
    assert attention_bias(pack) is None
