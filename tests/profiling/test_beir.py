"""BEIR folders as BEIR's own evaluator takes them: its trec_eval is run on the same rankings."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import pytrec_eval
import torch

from strata.model_store.encoding.precision import pick_device
from strata.model_store.encoding.reference import unit
from strata.model_store.profiling.beir import RetrievalSet, read_beir
from strata.model_store.profiling.benchmarks import Benchmarks, add_benchmark_arguments
from strata.model_store.profiling.encoders import ModelEncoder
from strata.model_store.profiling.retrieval import best, measure_retrieval, ndcg_at_10
from tests.tiny_models import tiny_sentence_model

WORDS = ["old", "cat", "red", "bird", "stone", "water", "light", "morning", "river", "tree", "house", "sleeps"]


def write(folder: Path, corpus: list[dict[str, object]], queries: list[dict[str, object]], qrels: str) -> Path:
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "qrels").mkdir(exist_ok=True)
    (folder / "qrels" / "test.tsv").write_text(qrels, encoding="utf-8")
    return folder


def test_a_folder_with_everything_that_does_not_fit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = read_beir(
        write(
            tmp_path,
            [
                {"_id": 1, "title": None, "text": "body"},
                {"_id": 2, "title": "only a title", "text": None},
                {"_id": "3", "title": "", "text": ""},
                {"_id": "3", "text": "later"},
                {"_id": "4", "text": None},
            ],
            [{"_id": 10, "text": "ten"}, {"_id": 11, "text": "eleven"}, {"_id": 12, "text": "unjudged"}],
            'query-id\tcorpus-id\tscore\n10\t1\t1\n"10"\t99\t2\n11\t2\t0\n77\t1\t1\n',
        )
    )
    assert data.documents == {"1": "body", "2": "only a title", "3": "later", "4": ""}
    assert data.queries == {"10": "ten", "11": "eleven"}
    assert data.relevance == {"10": {"1": 1, "99": 2}, "11": {"2": 0}}
    said = "\n".join(caplog.messages)
    assert "test.tsv: 1 judged queries are not among the queries" in said
    assert "test.tsv: 1 judged documents are not in the corpus" in said
    assert "corpus.jsonl: 1 rows have an _id that came before" in said
    assert "corpus.jsonl: 2 documents have neither title nor text" in said


@pytest.mark.parametrize(
    ("qrels", "why"),
    [
        ("query-id\tcorpus-id\tscore\nq\td\thigh\n", r"test\.tsv, row 2: score is 'high'; expected a whole number"),
        ("query-id\tcorpus-id\tscore\nq d 1\n", r"test\.tsv, row 2: has 1 fields; expected query-id, corpus-id, score"),
        ("q\t0\td\t1\n", r"test\.tsv, row 1: has 4 fields and names none; name query-id, corpus-id, score"),
        ("q\t0\t7\t1\n", "row 1: has 4 fields and names none"),  # read as it stands: document 0, and 7 its score
        ("qid\titer\tdocid\trel\nq\t0\t7\t1\n", "row 1: has 4 fields and names none"),
        ("query-id\tcorpus-id\tscore\nq\td\t0\n", "no query of the split 'test' has a relevant document"),
    ],
)
def test_judgements_that_cannot_be_read_are_refused(tmp_path: Path, qrels: str, why: str) -> None:
    write(tmp_path, [{"_id": "d", "text": "a"}], [{"_id": "q", "text": "a"}], qrels)
    with pytest.raises(ValueError, match=why):
        read_beir(tmp_path)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"_id": "d", "contents": "a"}, "row 1: expected an object with _id and text"),
        ({"_id": None, "text": "a"}, "row 1: _id is empty"),
        ({"_id": "d", "text": ["a"]}, r"row 1: text is \[\"a\"\]; expected a text"),
        ({"_id": 1.5, "text": "a"}, "row 1: _id is 1.5; expected a text"),
    ],
)
def test_documents_that_cannot_be_read_are_refused(tmp_path: Path, row: dict[str, object], why: str) -> None:
    write(tmp_path, [row], [{"_id": "q", "text": "a"}], "query-id\tcorpus-id\tscore\nq\td\t1\n")
    with pytest.raises(ValueError, match=why):
        read_beir(tmp_path)


def test_columns_go_by_their_names_and_a_header_may_be_absent(tmp_path: Path) -> None:
    corpus: list[dict[str, object]] = [{"_id": "d", "text": "a"}]
    queries: list[dict[str, object]] = [{"_id": "q", "text": "a"}]
    for qrels in (
        "\ufeffscore\tquery-id\tcorpus-id\n2\tq\td\n",
        "q\td\t2\n",
        "q\td\t2.0\n",
        "\nquery-id\tcorpus-id\tscore\nq\td\t2\n",
        "qid\tdocid\trel\nq\td\t2\n",
        "query-id\tcorpus-id\tscore\nq\td\t2.0\n",
    ):
        assert read_beir(write(tmp_path, corpus, queries, qrels)).relevance == {"q": {"d": 2}}


def test_the_scores_are_trec_evals(tmp_path: Path) -> None:
    """Ids shared by queries and documents, doubled documents (ties), absent and negative judgements."""
    random = np.random.default_rng(7)
    texts = [" ".join(random.choice(WORDS, 4)) for _ in range(20)] * 2
    documents = {str(i): text for i, text in enumerate(texts)}
    queries = {str(i): texts[i] for i in range(12)}
    relevance = {
        query: {str(d): int(random.integers(-1, 3)) for d in random.choice(50, 8, replace=False)} for query in queries
    }
    relevance["0"] = {"0": 1, "20": 1}
    model = ModelEncoder(tiny_sentence_model(tmp_path / "bert", "bert", layers=3), pick_device())
    encoder = model.reference
    found = measure_retrieval(model, RetrievalSet("made", queries, documents, relevance), (3,), (32,))

    vectors = {
        side: unit(encoder.encode(list(given.values()), (3,), None)[3], 32)
        for side, given in (("queries", queries), ("documents", documents))
    }
    # torch's product, as the measurement has it: another library may round the scores of doubled documents apart.
    similarity = (torch.from_numpy(vectors["queries"]) @ torch.from_numpy(vectors["documents"]).T).numpy()
    results = {
        query: {
            d: float(s) for d, s in zip(documents, row, strict=True) if d != query
        }  # as BEIR's ignore_identical_ids
        for query, row in zip(queries, similarity, strict=True)
    }
    scored = pytrec_eval.RelevanceEvaluator(relevance, {"ndcg_cut.10"}).evaluate(results)
    expected = 100 * float(np.mean([scored[query]["ndcg_cut_10"] for query in queries]))
    assert len(scored) == len(queries)
    assert found.scores("alike")[3][32] == pytest.approx(expected, abs=1e-4)


def test_equal_scores_rank_as_trec_eval_ranks_them() -> None:
    ids = np.array([str(i) for i in range(30)])
    similarity = np.repeat(np.array([0.9, 0.5, 0.1], np.float32), 10)
    judged = {"5": 1, "12": 2, "9": 1}
    run = {"q": {str(i): float(s) for i, s in zip(ids, similarity, strict=True)}}
    expected = pytrec_eval.RelevanceEvaluator({"q": judged}, {"ndcg_cut.10"}).evaluate(run)["q"]["ndcg_cut_10"]
    assert ndcg_at_10(best(similarity, ids), judged) == pytest.approx(expected)
    few = np.full(12, 0.5, np.float32)
    run = {"q": {str(i): 0.5 for i in range(12)}}
    expected = pytrec_eval.RelevanceEvaluator({"q": {"1": 1}}, {"ndcg_cut.10"}).evaluate(run)["q"]["ndcg_cut_10"]
    assert ndcg_at_10(best(few, ids[:12]), {"1": 1}) == pytest.approx(expected)


def test_a_folder_may_have_an_at_in_its_name(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_benchmark_arguments(parser)
    folder = tmp_path / "a@b" / "set"
    folder.mkdir(parents=True)
    write(folder, [{"_id": "d", "text": "a"}], [{"_id": "q", "text": "a"}], "query-id\tcorpus-id\tscore\nq\td\t1\n")
    shutil.copy(folder / "qrels" / "test.tsv", folder / "qrels" / "dev.tsv")
    for named in (folder, f"{folder}@", f"{folder}@dev"):
        (found,) = Benchmarks.read(parser.parse_args(["--beir", f"one={named}"])).retrieval
        assert (found.name, len(found.queries)) == ("one", 1)
    with pytest.raises(FileNotFoundError, match="a@b/absent"):
        Benchmarks.read(parser.parse_args(["--beir", str(tmp_path / "a@b" / "absent")]))
