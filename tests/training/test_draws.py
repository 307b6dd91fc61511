"""What a step sees: the same for the same seed and step, and made of what the recipe asks for."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import pytest

from strata.model_store.encoding.buckets import buckets
from strata.model_store.profiling.held_out import is_held_out
from strata.model_store.training.draws import Draws
from strata.model_store.training.recipe import Recipe
from strata.model_store.training.sources import GroupSource, LineSource, parse_source, read_groups, read_lines
from strata.model_store.training.steps import even_groups

RECIPE = Recipe(passage_chars=110, few_sources=0, titled_share=0)


def some(recipe: Recipe, lines: list[LineSource], pairs: list[GroupSource], step: int, count: int = 30) -> list[str]:
    return list(itertools.islice(Draws(recipe, lines, pairs).texts(step), count))


def test_order_depends_on_seed_and_step_alone(lines: LineSource, pairs: GroupSource) -> None:
    first = [some(RECIPE, [lines], [pairs], step) for step in range(4)]
    again = Draws(RECIPE, [lines], [pairs])
    assert [list(itertools.islice(again.texts(step), 30)) for step in reversed(range(4))] == first[::-1]
    assert [some(RECIPE.model_copy(update={"seed": 1}), [lines], [pairs], step) for step in range(4)] != first


def test_a_passage_brings_one_of_its_sentences(lines: LineSource) -> None:
    recipe = Recipe(passages=1, short_texts=0, groups=0, passage_chars=110, joined_share=0)
    taken_out = 0
    for step in range(10):
        passage, query = some(recipe, [lines], [], step, count=2)
        line = next(line for line in lines.lines if query in line and passage[-12:] in line)
        assert passage in (line, line.replace(f"{query} ", ""), line.replace(f" {query}", ""))
        taken_out += passage != line
    assert 0 < taken_out < 10


def test_joined_passages_are_made_of_neighbours(lines: LineSource) -> None:
    recipe = Recipe(passages=1, short_texts=0, groups=0, joined_share=1)
    drawn = some(recipe, [lines], [], 0, count=4)
    assert max(map(len, drawn)) >= 300 > max(map(len, lines.lines))


def test_no_text_is_drawn_twice_in_a_step(pairs: GroupSource) -> None:
    drawn = list(Draws(Recipe(titled_share=0), [], [pairs]).texts(0))
    assert sorted(drawn) == sorted({text for pair in pairs.groups for text in pair}), "all of them, each once"


def test_draws_from_few_sources_keep_to_them(lines: LineSource) -> None:
    sources = [LineSource(f"lines {i}", [f"{i} {line}" for line in lines.lines]) for i in range(8)]
    recipe = Recipe(short_texts=1, passages=0, groups=0, few_sources=1)
    for step in range(5):
        assert len({text.split()[0] for text in some(recipe, sources, [], step)}) == 3
    mixed = some(recipe.model_copy(update={"few_sources": 0}), sources, [], 0, count=100)
    assert len({text.split()[0] for text in mixed}) == 8


def test_what_is_held_out_is_not_drawn(tmp_path: Path) -> None:
    file = tmp_path / "pairs.tsv"
    file.write_text("".join(f"question {i}\tanswer {i}\n" for i in range(200)))
    drawn = set(Draws(Recipe(titled_share=0), [], [read_groups(file)]).texts(0))
    assert "question 0" in drawn or is_held_out("question 0")
    assert {f"question {i}" for i in range(200)} - drawn == {
        f"question {i}" for i in range(200) if is_held_out(f"question {i}")
    }


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
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert read_lines(*parse_source(f"{file}@2.5")) == LineSource("texts.txt", ["one", "two words"], 2.5, digest)
    for weight in ("none", "", "0", "-1", "nan", "inf"):
        with pytest.raises(ValueError, match="must be a weight, a finite number above 0"):
            parse_source(f"{file}@{weight}")
    assert parse_source("not@there/texts.txt") == (Path("not@there/texts.txt"), 1.0), "it is opened, and so named"


def test_buckets_hold_every_row_once_with_little_padding() -> None:
    lengths = [5, 90, 7, 88, 6, 85, 5, 30, 29, 31, 28, 120]
    made = buckets(lengths, max_tokens=300)
    assert sorted(row for bucket in made for row in bucket) == list(range(len(lengths)))
    padded = [max(lengths[i] for i in bucket) * len(bucket) for bucket in made]
    assert max(padded) <= 300
    assert sum(padded) < 1.25 * sum(lengths)


def test_even_groups_hold_every_row_once_and_are_alike() -> None:
    lengths = [5, 90, 7, 88, 6, 85, 5, 30, 29, 31, 28, 120]
    made = even_groups(lengths, count=4)
    assert sorted(row for group in made for row in group) == list(range(len(lengths)))
    tokens = [sum(lengths[row] for row in group) for group in made]
    assert len(tokens) == 4
    assert max(tokens) - min(tokens) < 25


def test_a_long_row_counts_for_more_than_its_tokens() -> None:
    made = even_groups([512, 128, 128, 128, 128, 128], count=2)
    assert made == [[0], [1, 2, 3, 4, 5]], "its attention takes as long as its dense layers"


def test_a_row_longer_than_a_bucket_still_runs() -> None:
    assert buckets([10, 500], max_tokens=100) == [[1], [0]]
