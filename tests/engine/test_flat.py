"""Flat batches hold every row once, deepest first; layouts and bins move tokens without mixing rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from strata.app.engine.backends.bins import attention_bias, pack_rows
from strata.app.engine.backends.torch_bins import pack
from strata.app.engine.backends.torch_dense import bins_of
from strata.app.engine.batch import Batch, Row
from strata.app.engine.flat import flatten, layout_of

ROWS = st.lists(st.tuples(st.integers(1, 90), st.integers(1, 4)), min_size=1, max_size=40)
LENGTHS = st.lists(st.integers(1, 90), min_size=1, max_size=40)


@settings(deadline=None)
@given(ROWS, st.booleans())
def test_every_row_lies_whole_in_its_place_deepest_and_longest_first(
    shapes: list[tuple[int, int]], by_length: bool
) -> None:
    rows = [Row(np.full(length, i, np.int32), layers, 8) for i, (length, layers) in enumerate(shapes)]
    flat = flatten(Batch(rows), by_length=by_length)
    assert sorted(flat.order) == list(range(len(rows)))
    for line, i in enumerate(flat.order):
        begin, end = flat.layout.starts[line : line + 2]
        np.testing.assert_array_equal(flat.ids[begin:end], rows[i].tokens)
        np.testing.assert_array_equal(flat.layout.positions[begin:end], np.arange(len(rows[i].tokens)))
        assert flat.depths[line] == rows[i].layers
    facts = [(-rows[i].layers, -len(rows[i].tokens) if by_length else i) for i in flat.order]
    assert facts == sorted(facts)


@settings(deadline=None)
@given(ROWS)
def test_exits_take_every_row_off_the_end_at_its_depth(shapes: list[tuple[int, int]]) -> None:
    flat = flatten(Batch(Row(np.zeros(length, np.int32), layers, 8) for length, layers in shapes))
    left, before = len(shapes), 0
    for layers, begin, end in flat.exits():
        assert end == left
        assert layers > before
        assert (flat.depths[begin:end] == layers).all()
        left, before = begin, layers
    assert left == 0


@settings(deadline=None)
@given(LENGTHS, st.data())
def test_taking_rows_moves_their_tokens_and_no_others(lengths: list[int], data: st.DataObject) -> None:
    layout = layout_of(np.array(lengths, np.int32))
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, len(lengths) - 1), min_size=1))))
    left, tokens = layout.take(rows)
    np.testing.assert_array_equal(left.lengths, layout.lengths[rows])
    owner = np.repeat(np.arange(layout.rows), layout.lengths)
    np.testing.assert_array_equal(owner[tokens], np.repeat(rows, left.lengths))
    np.testing.assert_array_equal(layout.positions[tokens], left.positions)
    first = layout.first(len(rows))
    np.testing.assert_array_equal(first.lengths, layout.lengths[: len(rows)])
    assert first.tokens == first.starts[-1]


@settings(deadline=None)
@given(LENGTHS, st.sampled_from([1, 32, 256]))
def test_a_row_lies_in_one_bin_and_sees_itself_alone(lengths: list[int], bin_width: int) -> None:
    layout = layout_of(np.array(lengths, np.int32))
    pack = pack_rows(layout, bin_width)
    assert len(set(pack.place)) == layout.tokens
    owners = pack.spread(pack.owner, -1).reshape(pack.bins, pack.width)
    for row, length in enumerate(lengths):
        mine = np.flatnonzero(owners == row)
        assert len(mine) == length
        assert mine[0] // pack.width == mine[-1] // pack.width
    bias = attention_bias(pack.owners)
    seen = owners[:, :, None] == owners[:, None, :]
    assert seen.all() if bias is None else (np.isfinite(bias[:, 0]) == seen).all()


@settings(deadline=None)
@given(LENGTHS)
def test_rows_of_a_cpu_lie_whole_in_bins_of_few_widths(lengths: list[int]) -> None:
    spots, packs = pack(lengths)
    widths = [width for _, _, width in packs]
    assert widths == sorted(set(widths), reverse=True)
    assert all(count == bins_of(count) for _, count, _ in packs)
    firsts = [first for first, _, _ in packs]
    assert firsts == [0, *np.cumsum([count * width for _, count, width in packs])[:-1].tolist()]
    bins = {(place, width) for first, count, width in packs for place in range(first, first + count * width, width)}
    taken: set[int] = set()
    for (first, before, width), length in zip(spots, lengths, strict=True):
        assert (first, width) in bins
        assert before + length <= width
        row = set(range(first + before, first + before + length))
        assert not taken & row
        taken |= row


def test_short_rows_fill_what_wider_bins_leave_free() -> None:
    assert pack([40, 40, 24, 24, 10, 8])[1] == [(0, 2, 64), (128, 1, 32)]


def test_real_lengths_are_binned_with_little_padding() -> None:
    draw = np.random.default_rng(0)
    lengths = -np.sort(-draw.gamma(3, 11, 400).clip(4, 120).astype(np.int32))
    packs = [pack_rows(layout_of(lengths[i : i + 5]), 64) for i in range(0, 400, 5)]
    assert sum(pack.places for pack in packs) < 1.25 * lengths.sum()


def test_equal_rows_need_no_mask() -> None:
    pack = pack_rows(layout_of(np.full(5, 7, np.int32)), 64)
    assert pack.padding == 0
    assert attention_bias(pack.owners) is None
