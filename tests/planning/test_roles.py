"""Which figure counts, and what queries and documents may be run at."""

from __future__ import annotations

from typing import Any

import pytest

from strata.app.callers.tier import DEFAULT, Tier
from strata.app.planning.plan import Ask, PlanRefused, Terms
from strata.app.planning.planner import Planner
from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.quality import Quality, Scored, ToldApart, Variant
from tests.planning.conftest import SCORES, paper_manifest, paper_set

MODEL = "paper@abc"
EXITS = tuple(SCORES)
SIMILARITY = {e: {16: 70.0, 64: 74.0 + e} for e in EXITS}
SEARCH = {e: {16: 50.0, 64: 60.0 + 3 * e} for e in EXITS}
LEGAL = {e: {16: 50.0, 64: 56.0 + 3 * e} for e in EXITS}
QUERIES = {e: {16: 52.0, 64: 66.0 + 2 * e} for e in (0, *EXITS)}
LEGAL_QUERIES = {e: {16: 52.0, 64: 64.0 + 2 * e} for e in (0, *EXITS)}


def searching_manifest(**update: object) -> Manifest:
    """Similarity, and search on two sets; queries also at exit 0; the sets can tell that queries are worse at 4."""
    beaten = {"search": {64: {4: 3}}}
    apart = ToldApart(samples=1000, confidence=0.95, alike={}, queries=beaten)
    sets = {
        "pairs": paper_set("similarity", SIMILARITY),
        "news": paper_set("search", SEARCH, QUERIES),
        "law": paper_set("search", LEGAL, LEGAL_QUERIES),
        "test split": paper_set("similarity", {e: {16: 1.0, 64: 1.0} for e in EXITS}).model_copy(
            update={"decides": False}
        ),
    }
    quality = Quality(reference="paper", sets=sets, told_apart=apart)
    return paper_manifest().model_copy(update={"quality": quality, "heads": (0,), **update})


PLANNER = Planner(searching_manifest(), MODEL)


def terms(*, planner: Planner = PLANNER, tier: Tier = DEFAULT, **asked: Any) -> Terms:
    return planner.terms(Ask(**asked), tier)


def told(found: Terms) -> list[tuple[str, float]]:
    return [(worth.task, round(worth.share * 80, 6)) for worth in found.quality if worth]


def refused(field: str, **asked: Any) -> str:
    with pytest.raises(PlanRefused) as caught:
        terms(**asked)
    assert caught.value.field == field
    return str(caught.value)


def test_where_nobody_names_a_task_the_lowest_counts() -> None:
    assert told(terms(layers=1)) == [("search", 61.0)], "the mean of 63 and 59; similarity is 75"
    assert told(terms(layers=6)) == [("search", 76.0)]
    worth = terms(layers=1).quality[0]
    assert worth is not None
    assert worth.worst * 80 == pytest.approx(59.0)
    assert worth.worst_set == "law"


def test_request_tier_and_server_name_the_task_in_that_order() -> None:
    similar = Tier("similar", task="similarity")
    server = Planner(searching_manifest(), MODEL, task="search")
    assert told(terms(layers=1, task="similarity")) == [("similarity", 75.0)]
    assert told(terms(layers=1, tier=similar)) == [("similarity", 75.0)]
    assert told(terms(layers=1, tier=similar, task="search")) == [("search", 61.0)]
    assert told(terms(planner=server, layers=1)) == [("search", 61.0)]
    assert told(terms(planner=server, layers=1, tier=similar)) == [("similarity", 75.0)]
    assert "one of similarity, search. Given: sorting" in refused("task", task="sorting")
    with pytest.raises(ValueError, match=r"--task: must be one of similarity, search\. Given: sorting"):
        Planner(searching_manifest(), MODEL, task="sorting")


def test_a_floor_is_of_the_task_that_counts() -> None:
    assert terms(min_quality=0.85).exits == (4,)
    assert terms(min_quality=0.85, task="similarity").exits == (1,)
    assert terms(min_quality=0.85, input_type="query").exits == (2,)
    assert "of search, at 6 layers" in refused("min_quality", min_quality=0.99)


def test_documents_stay_at_full_depth_whatever_budget_tier_or_floor() -> None:
    hurried = Tier("hurried", deadline_s=0.01, exits=(1, 2), task="similarity")
    for asked in ({}, {"budget_ms": 1.0}, {"min_quality": 0.5}, {"min_layers": 2}):
        for tier in (DEFAULT, hurried):
            assert terms(tier=tier, input_type="document", **asked).exits == (6,)
    assert PLANNER.space(6, terms(input_type="document", budget_ms=1)) == f"{MODEL}/6x64"
    assert terms(input_type="document", space=f"{MODEL}/3x16", budget_ms=1).exits == (3,)
    assert terms(input_type="document", layers=3, budget_ms=1).exits == (3,)
    assert "not for documents" in refused("layers", input_type="document", layers="auto")
    assert "(not among `exits`)" in refused("layers", input_type="document", exits=(1, 2))


def test_queries_float_on_full_depth_documents_down_to_exit_0() -> None:
    found = terms(input_type="query", budget_ms=5)
    assert found.exits == (0, 1, 2, 3, 6), "4 is passed over: the sets can tell that 3 is better"
    assert told(found)[0] == ("search", 65.0)
    assert {PLANNER.space(layers, found) for layers in found.exits} == {f"{MODEL}/6x64"}
    in_index = terms(input_type="query", budget_ms=5, space=f"{MODEL}/6x16")
    assert (in_index.exits, in_index.dim) == ((0, 1, 2, 3, 4, 6), 16)
    assert PLANNER.space(0, in_index) == f"{MODEL}/6x16"
    assert terms(input_type="query").exits == (6,), "without a deadline as deep as can be"
    assert terms(input_type="query", budget_ms=5, min_layers=2).exits == (2, 3, 6)
    assert terms(input_type="query", budget_ms=5, exits=(0, 2)).exits == (0, 2)
    assert terms(budget_ms=5).exits == EXITS, "exit 0 is for queries"
    assert "among 1, 2, 3, 4, 6" in refused("exits", exits=(0, 2))
    assert "1, 2, 3, 4, 6" in refused("layers", layers=0)


def test_a_query_of_a_shallow_index_has_its_depth_and_space() -> None:
    found = terms(input_type="query", budget_ms=5, space=f"{MODEL}/3x64")
    assert found.exits == (3,)
    assert PLANNER.space(3, found) == f"{MODEL}/3x64"


def test_a_query_at_a_depth_it_names_is_searched_among_full_depth_documents() -> None:
    found = terms(input_type="query", layers=2)
    assert (found.exits, PLANNER.space(2, found)) == ((2,), f"{MODEL}/6x64")
    assert told(found) == [("search", 69.0)]


def test_queries_that_were_not_measured_do_not_float() -> None:
    planner = Planner(paper_manifest(), MODEL)
    assert terms(planner=planner, input_type="query", budget_ms=5).exits == (6,)
    named = terms(planner=planner, input_type="query", layers=2)
    assert planner.space(2, named) == f"{MODEL}/2x64", "among documents of its own depth"
    with pytest.raises(PlanRefused, match="was not measured"):
        terms(planner=planner, input_type="query", min_quality=0.5)


def test_a_task_without_figures_of_queries_does_not_hold_for_them() -> None:
    similar = Tier("similar", task="similarity")
    assert told(terms(tier=similar, input_type="query", layers=1)) == [("search", 67.0)]
    assert "for input_type query must be one of search" in refused("task", task="similarity", input_type="query")


def test_figures_are_of_the_dtype_that_runs() -> None:
    quality = searching_manifest().quality
    assert quality is not None
    table = {e: {64: 40.0} for e in (0, *EXITS)}
    part = {"pairs": Scored(scores=table)}
    whole = part | {name: Scored(scores=table, queries=table) for name in ("news", "law")}
    for dtype, sets, found in (
        ("bfloat16", part, ("search", 61.0)),  # float32 stands for it until all was measured
        ("bfloat16", whole, ("similarity", 40.0)),
        ("int8", part, ("similarity", 40.0)),  # all that was measured at it
    ):
        variants = (Variant.model_validate({"dtype": dtype, "sets": sets}),)
        planner = Planner(searching_manifest(quality=quality.model_copy(update={"variants": variants})), MODEL)
        planner.engine_runs_at("float32")
        assert told(terms(planner=planner, layers=1)) == [("search", 61.0)]
        planner.engine_runs_at(dtype)
        assert told(terms(planner=planner, layers=1)) == [found]
    plain = Planner(searching_manifest(), MODEL)
    plain.engine_runs_at("bfloat16")
    assert told(terms(planner=plain, layers=1)) == [("search", 61.0)], "it keeps cosine 0.9995 to float32"
    plain.engine_runs_at("int8")
    assert terms(planner=plain, layers=1).quality == (None,)
    with pytest.raises(PlanRefused, match="was not measured"):
        terms(planner=plain, min_quality=0.5)
