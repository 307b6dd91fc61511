"""Sets made of held-out pairs: nothing in them was trained on, and the same file gives the same set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strata.app.cli import main
from strata.model_store.profiling.beir import read_beir
from strata.model_store.profiling.held_out import is_held_out
from strata.model_store.training.sources import read_groups


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """400 pairs; every tenth question has a second answer, and some answers come twice."""
    file = tmp_path / "questions.jsonl"
    rows = [[f"What is number {i}?", f"Number {i} is the one after {i - 1}."] for i in range(400)]
    rows += [[f"What is number {i}?", f"It is {i}."] for i in range(0, 400, 10)]
    rows += [["Which comes first?", "Number 7 is the one after 6."]]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_queries_were_never_trained_on_and_find_all_their_passages(pairs: Path, tmp_path: Path) -> None:
    assert main(["sets", str(tmp_path / "out"), "--pairs", f"numbers={pairs}", "--documents", "60"]) == 0
    data = read_beir(tmp_path / "out" / "numbers")
    rows = [tuple(json.loads(line)) for line in pairs.read_text().splitlines()]
    trained = {text for group in read_groups(pairs).groups for text in group}
    assert len(data.queries) == len({query for query, _ in rows if is_held_out(query)})
    assert len(data.documents) == 60
    for id, query in data.queries.items():
        assert is_held_out(query)
        assert query not in trained
        relevant = {data.documents[document] for document in data.relevance[id]}
        assert relevant == {passage for asked, passage in rows if asked == query}
        assert relevant.isdisjoint(trained)


@pytest.mark.parametrize("name", ["../evil", "a/b", "", "Größe"])
def test_a_name_that_no_manifest_takes_is_refused(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["sets", str(tmp_path / "out"), "--pairs", f"numbers={pairs}", "--pairs", f"{name}={pairs}"]) == 1
    assert f"--pairs {name!r}: a set's name is 1 to 64 letters" in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "nothing is made where one of them cannot be"
    assert not (tmp_path / "evil").exists()


def test_the_same_file_gives_the_same_bytes(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "other"):
        assert main(["sets", str(tmp_path / name), "--pairs", str(pairs), "--queries", "5"]) == 0
    one, other = (tmp_path / name / "questions" for name in ("one", "other"))
    for file in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        assert (one / file).read_bytes() == (other / file).read_bytes()
    assert len(read_beir(one).queries) == 5
    assert main(["sets", str(tmp_path / "one"), "--pairs", str(pairs)]) == 1
    assert "holds a set already" in capsys.readouterr().err
    bare = tmp_path / "bare.tsv"
    bare.write_text("a\tb\n")
    assert main(["sets", str(tmp_path / "bare"), "--pairs", str(bare)]) == 1
    assert "none of its 1 pairs is held out" in capsys.readouterr().err
