"""Promise 5, on paper: terms never go under a floor, and name only exits worth their time; or the ask is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.app.callers.tier import DEFAULT, Tier
from strata.app.planning.feasibility import check_feasible
from strata.app.planning.plan import Ask, Infeasible, PlanRefused, Terms
from strata.app.planning.planner import Planner
from strata.model_store.bundle.quality import Worth
from tests.planning.conftest import SCORES, paper_manifest

MODEL = "paper@abc"
PLANNER = Planner(paper_manifest(), MODEL)
UNMEASURED = Planner(paper_manifest(measured=False), MODEL)
UNTRAINED = Planner(paper_manifest(), MODEL, allow_untrained=True)

layer = st.integers(1, 7)
share = st.floats(0.05, 1.1)
exits = st.one_of(st.just("shared"), st.sets(st.sampled_from(list(SCORES)), min_size=1).map(lambda s: tuple(sorted(s))))


def maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


asks = st.builds(
    Ask,
    layers=maybe(layer),
    dim=maybe(st.sampled_from([16, 64])),
    budget_ms=maybe(st.floats(0.1, 1e5)),
    min_quality=maybe(share),
    min_layers=maybe(layer),
    exits=maybe(exits),
)
tiers = st.builds(
    Tier,
    st.just("gold"),
    deadline_s=maybe(st.floats(0.001, 10)),
    min_quality=maybe(share),
    min_layers=maybe(layer),
    exits=maybe(exits),
)


def kept(layers: int, dim: int) -> float:
    """The share by the table, at 80 points a whole."""
    return SCORES[layers] / 80 * (0.9 if dim == 16 else 1)


def terms(*, planner: Planner = PLANNER, tier: Tier = DEFAULT, **asked: Any) -> Terms:
    return planner.terms(Ask(**asked), tier)


def refused(field: str, *, planner: Planner = PLANNER, tier: Tier = DEFAULT, **asked: Any) -> str:
    with pytest.raises(PlanRefused) as caught:
        terms(planner=planner, tier=tier, **asked)
    assert caught.value.field == field
    return str(caught.value)


@given(ask=asks, tier=tiers)
def test_no_terms_break_a_floor_or_leave_the_exits_named(ask: Ask, tier: Tier) -> None:
    try:
        explained = PLANNER.explain(ask, tier)
    except PlanRefused:
        return
    found = explained.terms
    assert found.exits
    assert list(found.exits) == sorted(set(found.exits))
    assert set(found.exits) | set(explained.ruled_out) == set(SCORES)
    assert not set(found.exits) & set(explained.ruled_out)
    quality = [kept(layers, found.dim) for layers in found.exits]
    assert quality == pytest.approx([worth.share for worth in found.quality if worth])
    for floor in (ask.min_layers, tier.min_layers):
        assert floor is None or found.exits[0] >= floor
    for least in (ask.min_quality, tier.min_quality):
        assert least is None or min(quality) >= least - 1e-9
    for named in (ask.exits, tier.exits):
        assert named is None or set(found.exits) <= set((6,) if named == "shared" else named)
    assert ask.layers is None or found.exits == (ask.layers,)
    assert found.deadline_s == (tier.deadline_s if ask.budget_ms is None else ask.budget_ms / 1000)
    if found.deadline_s is None:
        assert len(found.exits) == 1


@given(ask=asks, tier=tiers)
def test_with_a_deadline_no_exit_left_is_beaten_by_one_before_it(ask: Ask, tier: Tier) -> None:
    try:
        found = PLANNER.terms(ask, tier)
    except PlanRefused:
        return
    if found.deadline_s is not None and ask.layers is None:
        assert not {2, 3} <= set(found.exits), "the sets can tell that 3 layers are worse than 2"


@given(ask=asks, tier=tiers)
def test_a_refusal_is_never_hasty(ask: Ask, tier: Tier) -> None:
    """What is refused has no exit that meets everything asked."""
    try:
        PLANNER.terms(ask, tier)
    except PlanRefused:
        dim = ask.dim or 64
        for layers in SCORES:
            quality = kept(layers, dim)
            named = [e for e in (ask.exits, tier.exits) if e is not None]
            met = (
                all(layers in ((6,) if e == "shared" else e) for e in named)
                and layers >= max(ask.min_layers or 0, tier.min_layers or 0)
                and quality >= max(ask.min_quality or 0, tier.min_quality or 0) + 1e-9
                and ask.layers in (None, layers)
            )
            assert not met


def test_nothing_said_is_full_depth_and_length() -> None:
    assert terms() == Terms((6,), 64, (Worth(1.0, "similarity", 1.0, "made up"),), None, "default")


def test_a_floor_alone_is_met_as_cheaply_as_can_be() -> None:
    assert terms(min_layers=3).exits == (3,)
    assert terms(min_quality=0.74).exits == (2,)
    assert terms(tier=Tier("cheap", min_quality=0.8)).exits == (4,)


def test_with_a_deadline_load_decides_among_the_exits_worth_their_time() -> None:
    assert terms(budget_ms=10).exits == (1, 2, 4, 6)
    assert terms(budget_ms=10, min_layers=2).exits == (2, 4, 6)
    assert terms(tier=Tier("gold", deadline_s=0.1, min_layers=3)).exits == (3, 4, 6)


def test_the_callers_budget_wins_over_the_tiers_and_the_higher_floor_over_the_lower() -> None:
    gold = Tier("gold", deadline_s=0.1, min_layers=2)
    assert terms(tier=gold, budget_ms=20).deadline_s == 0.02
    assert terms(tier=gold).deadline_s == 0.1
    assert terms(tier=gold, min_layers=1).exits == (2, 4, 6)
    assert terms(tier=gold, min_layers=4).exits == (4, 6)


def test_exits_may_not_leave_those_that_share_an_index() -> None:
    assert terms(exits="shared", budget_ms=10).exits == (6,)  # nothing measured: only full depth shares with itself
    assert terms(exits=(1, 4), budget_ms=10).exits == (1, 4)
    assert terms(exits=(1, 4)).exits == (4,)
    assert "1, 2, 3, 4, 6" in refused("exits", exits=(1, 5))
    assert "gold" in refused("exits", exits=(1,), tier=Tier("gold", exits=(4, 6)))


def test_layers_pins_inside_the_tier() -> None:
    assert terms(layers=2, budget_ms=10).exits == (2,)
    message = refused("layers", layers=2, tier=Tier("gold", min_layers=4))
    assert "must be one of 4, 6" in message
    assert "tier `gold`" in message


def test_a_quality_out_of_reach_is_refused_with_the_best_there_is() -> None:
    assert "0.9000 of similarity, at 6 layers" in refused("min_quality", min_quality=0.95, dim=16)
    assert "0.8750 of similarity, at 4 layers" in refused("min_quality", min_quality=0.9, exits=(1, 4))


def test_quality_of_a_model_without_tables_is_refused_and_says_so() -> None:
    assert "was not measured" in refused("min_quality", planner=UNMEASURED, min_quality=0.5)
    assert terms(planner=UNMEASURED, budget_ms=10).exits == tuple(SCORES)


def test_untrained_exits_are_run_only_where_they_are_named() -> None:
    assert terms(planner=UNTRAINED, budget_ms=10).exits == (1, 2, 4, 6)
    assert terms(planner=UNTRAINED, layers=5, dim=7).exits == (5,)
    assert terms(planner=UNTRAINED, exits=(5, 6)).exits == (6,)


def test_a_space_pins_depth_and_length_of_this_model_only() -> None:
    found = terms(space=f"{MODEL}/2x16", budget_ms=5)
    assert (found.exits, found.dim) == ((2,), 16)
    for space in ("paper@other/2x16", "other@abc/2x16", "2x16", MODEL, f"{MODEL}/2x", f"{MODEL}/0x16", ""):
        assert MODEL in refused("space", space=space)
    assert "`dim` is 64" in refused("space", space=f"{MODEL}/2x16", dim=64)
    assert "`layers` is 4" in refused("space", space=f"{MODEL}/2x16", layers=4)
    assert "min_layers" in refused("space", space=f"{MODEL}/2x16", min_layers=4)
    assert "1, 2, 3, 4, 6" in refused("space", space=f"{MODEL}/5x16")


@pytest.mark.parametrize(("deadline_s", "told"), [(0.02, "or allow 1 layer$"), (0.03, "or allow 1, 2 layers$")])
def test_what_a_short_deadline_would_allow_is_told_in_words(deadline_s: float, told: str) -> None:
    terms = Terms(exits=(6,), dim=64, quality=(None,), deadline_s=deadline_s)
    with pytest.raises(Infeasible, match=told):
        check_feasible(terms, Ask(budget_ms=1000 * deadline_s), (1, 2, 6), 1, lambda layers: layers / 75)
