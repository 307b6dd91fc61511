"""The search example: an index of full-depth documents under a flood of queries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from strata.app.cli import main
from strata.loadtest.search_index import retrieval_set
from tests.conftest import SMALL
from tests.tiny_models import texts


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """Documents, and queries that are the very same texts."""
    some = list(dict.fromkeys(texts(60, seed=3, longest=12)))
    (tmp_path / "qrels").mkdir()
    rows = [json.dumps({"_id": f"d{i}", "title": "", "text": text}) for i, text in enumerate(some)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(rows))
    rows = [json.dumps({"_id": f"q{i}", "text": text}) for i, text in enumerate(some[:20])]
    (tmp_path / "queries.jsonl").write_text("\n".join(rows))
    judged = "".join(f"q{i}\td{i}\t1\n" for i in range(20))
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    return tmp_path


def test_queries_of_every_policy_are_searched_on_one_index(
    searching: Path,
    beir: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("strata.loadtest.search._REST_S", 0.0)
    monkeypatch.setattr("strata.loadtest.open_loop._SETTLE_S", 0.0)
    file = tmp_path / "search.json"
    options = ["--beir", str(beir), "--pinned", "3,1", "--loads", "0.5,1", "--capacity", "60", "--seconds", "0.5"]
    serve = ["--", "--model", str(searching), *SMALL]
    assert main(["loadtest", "search", *options, "--deadline-ms", "2000", "--json", str(file), *serve]) == 0
    written = json.loads(file.read_text())
    assert written["facts"]["set"].endswith("20 queries, 60 documents")
    outcomes = written["rounds"]["outcomes"]
    assert [(each["load"], each["policy"]) for each in outcomes] == [
        (load, policy) for load in (0.5, 1.0) for policy in ("pinned at 3", "pinned at 1", "floating")
    ]
    for each in outcomes:
        assert each["in_time"] == 1.0
        assert each["delivered"] == pytest.approx(each["ndcg"])
        if each["policy"] != "pinned at 1":
            assert (each["layers"], each["ndcg"]) == (3.0, 100.0), "at leisure all queries find themselves"
        else:
            assert each["layers"] == 1.0
            assert each["ndcg"] < 100
    shown = capsys.readouterr().out
    assert "floating" in shown
    assert "delivered" in shown


def test_a_depth_that_is_no_exit_is_refused(searching: Path, beir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    serve = ["--", "--model", str(searching), *SMALL]
    assert main(["loadtest", "search", "--beir", str(beir), "--pinned", "2", *serve]) == 1
    assert "--pinned 2: the model's exits are 1, 3" in capsys.readouterr().err


def test_the_set_that_comes_with_it_asks_with_first_lines_for_the_rest() -> None:
    data = retrieval_set(None)
    assert len(data.queries) == 500
    assert len(data.documents) > 2000
    for query, judged in data.relevance.items():
        (document,) = judged
        assert data.documents[document]
        assert data.queries[query] != data.documents[document]
