"""What a step sees: the same for the same seed and step, and made of what the recipe asks for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strata.model_store.encoding.buckets import buckets
from strata.model_store.training.draws import Draws
from strata.model_store.training.recipe import Recipe
from strata.model_store.training.sources import GroupSource, LineSource, parse_source, read_groups, read_lines

RECIPE = Recipe(passages=3, short_texts=5, groups=2, passage_chars=110)


def test_order_depends_on_seed_and_step_alone(lines: LineSource, pairs: GroupSource) -> None:
    first = [Draws(RECIPE, [lines], [pairs]).texts(step) for step in range(4)]
    again = Draws(RECIPE, [lines], [pairs])
    assert [again.texts(step) for step in reversed(range(4))] == first[::-1]
    other = Draws(RECIPE.model_copy(update={"seed": 1}), [lines], [pairs])
    assert [other.texts(step) for step in range(4)] != first


def test_a_passage_brings_one_of_its_sentences(lines: LineSource) -> None:
    recipe = Recipe(passages=1, short_texts=1, groups=0, passage_chars=110, joined_share=0)
    taken_out = 0
    for step in range(10):
        passage, query, *_ = Draws(recipe, [lines], []).texts(step)
        line = next(line for line in lines.lines if query in line and passage[-12:] in line)
        assert passage in (line, line.replace(f"{query} ", ""), line.replace(f" {query}", ""))
        taken_out += passage != line
    assert 0 < taken_out < 10


def test_joined_passages_are_made_of_neighbours(lines: LineSource) -> None:
    recipe = Recipe(passages=2, short_texts=0, groups=0, joined_share=1, passage_chars=10_000)
    drawn = Draws(recipe, [lines], []).texts(0)
    assert max(map(len, drawn)) >= 300 > max(map(len, lines.lines))


def test_no_text_is_drawn_twice_in_a_step(pairs: GroupSource) -> None:
    drawn = Draws(Recipe(groups=60), [], [pairs]).texts(0)
    assert len(drawn) == len(set(drawn))


def test_no_data_is_refused() -> None:
    with pytest.raises(ValueError, match="no training data"):
        Draws(RECIPE, [], [])


def test_groups_are_read_from_named_columns_or_by_place(tmp_path: Path) -> None:
    named, bare, objects = tmp_path / "named.tsv", tmp_path / "bare.tsv", tmp_path / "objects.jsonl"
    named.write_text("score\tsentence1\tsentence2\n5.0\tone  text\tanother\n")
    bare.write_text('anchor text\tpositive\tnegative "quoted\n')
    objects.write_text(json.dumps({"negative": "n", "query": "q", "passage": "p"}) + "\n" + json.dumps(["a", "b"]))
    assert read_groups(named).groups == [("one text", "another")]
    assert read_groups(bare).groups == [("anchor text", "positive", 'negative "quoted')]
    assert read_groups(objects).groups == [("q", "p", "n"), ("a", "b")]


def test_a_row_of_one_text_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "broken.tsv"
    file.write_text("a\tb\nalone\n")
    with pytest.raises(ValueError, match=r"broken\.tsv, row 2"):
        read_groups(file)


def test_a_weight_follows_the_path(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("one\n\n two  words \n")
    assert read_lines(*parse_source(f"{file}@2.5")) == LineSource("texts.txt", ["one", "two words"], 2.5)
    with pytest.raises(ValueError, match="positive weight"):
        parse_source(f"{file}@none")


def test_buckets_hold_every_row_once_with_little_padding() -> None:
    lengths = [5, 90, 7, 88, 6, 85, 5, 30, 29, 31, 28, 120]
    made = buckets(lengths, max_tokens=300)
    assert sorted(row for bucket in made for row in bucket) == list(range(len(lengths)))
    padded = [max(lengths[i] for i in bucket) * len(bucket) for bucket in made]
    assert max(padded) <= 300
    assert sum(padded) < 1.25 * sum(lengths)


def test_a_row_longer_than_a_bucket_still_runs() -> None:
    assert buckets([10, 500], max_tokens=100) == [[1], [0]]
