"""Measures: they agree with scipy, with nDCG worked by hand, and with what was published for the original model."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from strata.model_store.encoding.precision import pick_device
from strata.model_store.encoding.reference import unit
from strata.model_store.profiling.beir import RetrievalSet, read_beir
from strata.model_store.profiling.benchmarks import Benchmarks
from strata.model_store.profiling.encoders import ModelEncoder
from strata.model_store.profiling.quality import measure_quality
from strata.model_store.profiling.retrieval import measure_retrieval, ndcg_at_10
from strata.model_store.profiling.set_result import SetResult
from strata.model_store.profiling.sts import StsPairs, cosines, measure_sts, read_sts

SHARED = Path(__file__).parents[2].parent / "shared"


def test_cosine_spearman_is_scipys() -> None:
    generator = np.random.default_rng(0)
    first, second = (generator.normal(size=(40, 16)).astype(np.float32) for _ in range(2))
    people = generator.integers(0, 6, 40).astype(np.float64)
    by_hand = [
        float(a[:8] @ b[:8] / np.linalg.norm(a[:8]) / np.linalg.norm(b[:8])) for a, b in zip(first, second, strict=True)
    ]
    cells = {(1, 8): cosines(first, second, 8)}
    found = SetResult("pairs", "similarity", "0" * 64, 40, None, True, cells, people=people)
    assert found.scores("alike")[1][8] == pytest.approx(100 * spearmanr(by_hand, people).statistic)


def test_ndcg_by_hand() -> None:
    # Gains 0, 2, 1 at ranks 1, 2, 3; the best order is 2, 1.
    found = 2 / math.log2(3) + 1 / math.log2(4)
    best = 2 / math.log2(2) + 1 / math.log2(3)
    assert ndcg_at_10(["x", "a", "b"], {"a": 2, "b": 1}) == pytest.approx(found / best)
    assert ndcg_at_10(["a"], {"a": 1}) == 1.0
    assert ndcg_at_10([*(f"x{i}" for i in range(10)), "a"], {"a": 1}) == 0.0, "rank 11 does not count"


def test_a_dim_is_cut_before_it_is_normalised() -> None:
    vectors = np.array([[3.0, 4.0, 12.0]], np.float32)
    np.testing.assert_allclose(unit(vectors, 2), [[0.6, 0.8]], atol=1e-6)


def test_search_finds_a_text_by_itself_at_every_depth(tiny_bert: Path) -> None:
    texts = ["the old cat", "a red bird sleeps", "stone and water", "light of the morning"]
    data = RetrievalSet(
        "self",
        {f"q{i}": text for i, text in enumerate(texts)},
        {f"d{i}": text for i, text in enumerate(texts)},
        {f"q{i}": {f"d{i}": 1} for i in range(4)},
    )
    result = measure_retrieval(ModelEncoder(tiny_bert, pick_device()), data, (1, 3), (16, 32))
    assert result.scores("alike") == {1: {16: 100.0, 32: 100.0}, 3: {16: 100.0, 32: 100.0}}
    assert result.scores("queries")[3] == result.scores("alike")[3]


def test_a_measurement_is_a_score_for_each_exit_and_dim(tiny_bert: Path) -> None:
    pairs = StsPairs("pairs", ["a cat", "a dog", "the river"], ["the cat", "a fish", "fire"], [5.0, 2.0, 1.0])
    (found,) = measure_quality(ModelEncoder(tiny_bert, pick_device()), Benchmarks([pairs]), (1, 3), (8, 32))
    assert {exit: set(row) for exit, row in found.scores("alike").items()} == {1: {8, 32}, 3: {8, 32}}
    assert found.scores("queries") == {}


def test_beir_folders_of_both_layouts(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text('{"_id": "d1", "title": "T", "text": "body"}\n')
    (tmp_path / "queries.jsonl").write_text('{"_id": "q1", "text": "judged"}\n{"_id": "q2", "text": "not"}\n')
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td1\t0\n")
    data = read_beir(tmp_path)
    assert data.queries == {"q1": "judged", "q2": "not"}, "BEIR counts a query without relevant documents as 0"
    assert (data.documents, data.relevance) == ({"d1": "T body"}, {"q1": {"d1": 1}, "q2": {"d1": 0}})
    (tmp_path / "queries.jsonl").rename(tmp_path / "queries_dev.jsonl")
    (tmp_path / "qrels" / "test.tsv").rename(tmp_path / "qrels_dev.tsv")
    assert read_beir(tmp_path, "dev").queries == data.queries
    with pytest.raises(FileNotFoundError, match="queries_test"):
        read_beir(tmp_path, "test")


def test_the_original_scores_what_is_known_of_it() -> None:
    base, pairs = SHARED / "models" / "gte-small", SHARED / "data" / "stsb" / "test.tsv"
    if not base.exists() or not pairs.exists():
        pytest.skip("shared/ with the original model and STS-B is not beside the checkout")
    some = read_sts(pairs)
    part = StsPairs("part", some.first[::8], some.second[::8], some.scores[::8])
    result = measure_sts(ModelEncoder(base, pick_device()), part, (12,), (384,))
    assert result.scores("alike")[12][384] == pytest.approx(85.6, abs=2.5)
