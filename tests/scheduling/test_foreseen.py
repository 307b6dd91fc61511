"""What is foreseen of those who send more than one kind of request, and when answers come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from strata.app.engine.batch import TokenIds
from strata.app.planning.cost import BatchBounds, CostModel, Costs
from strata.app.planning.plan import Terms
from strata.app.scheduling.admission import Newcomer, judge, late_within
from strata.app.scheduling.backlog import Backlogs
from strata.app.scheduling.curves import Curves
from strata.app.scheduling.foreseen import foreseen
from strata.app.scheduling.learnt import Learnt
from strata.app.scheduling.policy import Policy
from strata.app.scheduling.queue import Columns
from strata.app.scheduling.result import Answer
from strata.app.scheduling.scheduler import Scheduler
from strata.app.scheduling.snapshot import Capacity, Expected, Snapshot, deepest
from strata.app.scheduling.take_snapshot import take_snapshot
from strata.loadtest.simulation.traffic import Call, simulate
from tests.scheduling.callers import EXITS, FULL_PER_S, mean_depth, poisson, terms

COSTS = Costs(token_layer=1e-4)  # a text of ten tokens takes a millisecond a layer
UNKNOWN = (None,) * len(EXITS)


def snapshot(learnt: Learnt, now: float) -> Snapshot:
    found, _ = take_snapshot(
        learnt,
        Curves(12),
        Policy(),
        None,
        workers=2,
        idle=0,
        batch_tokens=512,
        batch_texts=None,
        running=(),
        waiting=({}, {}),
        backlogs=Backlogs(),
        now=now,
    )
    return found


@pytest.mark.parametrize("last", ["query", "document"])
def test_the_newest_request_does_not_stand_for_its_tier(last: str) -> None:
    """Documents pinned to full depth beside queries that float: each document made everybody's outlook the worst."""
    learnt = Learnt(CostModel())
    for at in range(400):
        document = at % 4 == (3 if last == "document" else 0)
        curve = ((12,), (None,)) if document else (EXITS, UNKNOWN)
        learnt.came(("app", ""), 1, 200 if document else 10, 0.5, curve, at / 100)
    found = {kind.floor: kind for kind in snapshot(learnt, 4.0).expected}
    assert found[12].part == pytest.approx(0.25, abs=0.02)
    assert found[12].text_tokens == pytest.approx(200, rel=0.05)
    assert found[1].text_tokens == pytest.approx(10, rel=0.05)
    assert sum(kind.rates[0] for kind in found.values()) == pytest.approx(100, rel=0.2)


def test_no_more_than_a_few_kinds_of_a_flow_are_known() -> None:
    learnt = Learnt(CostModel())
    for at in range(400):
        learnt.came(("app", ""), 1, 10, 0.1 + 0.01 * at, (EXITS, UNKNOWN), at / 100)
    assert len(snapshot(learnt, 4.0).expected) <= 4


def test_a_kind_that_comes_no_more_is_forgotten() -> None:
    """Its part used to shrink with each request until it was none, and what divides by it failed every request."""
    learnt = Learnt(CostModel())
    learnt.came(("app", ""), 1, 200, 0.5, ((12,), (None,)), 0.0)
    for at in range(1, 40_000):
        learnt.came(("app", ""), 1, 10, 0.5, (EXITS, UNKNOWN), at / 1000)
    (kind,) = snapshot(learnt, 40.0).expected
    assert (kind.floor, kind.part) == (1, 1.0)


def test_a_share_carries_the_kinds_of_a_tier_on_average() -> None:
    def kind(part: float, floor: int, top: int) -> Expected:
        return Expected("app", 0.5, part, (1.0, 1.0), 10.0, 1.0, floor, top, 0, 1e-3 * floor, 1e-3 * top, (1.0, 1.0))

    kinds = [kind(0.75, 2, 12), kind(0.25, 12, 12)]
    assert deepest(kinds, 0.0121) == 12
    assert deepest(kinds, 0.0046) == pytest.approx(4.6)
    assert deepest(kinds, 0.004) < 0


def columns(slack_s: list[float], tokens: list[int], kept: list[float], floors: list[int], curves: Curves) -> Columns:
    rows = [curves.number(tuple(e for e in EXITS if e >= floor), UNKNOWN[: 12 - floor + 1]) for floor in floors]
    return Columns(
        np.array(slack_s),
        np.array(slack_s),
        np.array(tokens, float),
        np.ones(len(tokens)),
        np.array(floors, float),
        np.array(rows, np.intp),
        np.array(kept),
        np.array([depth > 0 for depth in kept]),
        np.zeros(len(tokens)),
        np.zeros(len(tokens)),
    )


def test_those_within_their_share_go_first_where_others_would_make_them_late_at_the_depth_they_keep() -> None:
    curves = Curves(12)
    queue = columns([0.9] * 60 + [0.507], [10] * 61, [0.0] * 60 + [12.0], [8] * 60 + [1], curves)
    capacity = Capacity(COSTS, 1, BatchBounds(512, 0.05, None, 10.0))
    assert late_within(queue, Snapshot(0.0, capacity, Policy(), kept={"own": 12.0}), curves)
    assert not late_within(queue, Snapshot(0.0, capacity, Policy()), curves), "at its floor it is in time"


def test_one_worker_answers_the_first_of_a_batch_with_its_last() -> None:
    capacity = Capacity(COSTS, 1, BatchBounds(512, 0.05, None, 10.0))
    work = np.full(10, 0.02)
    assert capacity.finish(work)[0] == pytest.approx(0.02 + (0.05 - 0.02) / 2)
    assert capacity.finish_one(0.18, 0.02) == pytest.approx(capacity.finish(work)[-1])
    assert capacity.finish_one(0.0, 0.2) == pytest.approx(0.2), "alone in its batch it waits for nobody"


def test_documents_beside_queries_take_nobodys_depth() -> None:
    """Of a tier of its own that is within its share: it ran at 12 layers and at 1, in turns."""
    app = [
        *poisson(40, 6, terms((3, 4, 6, 8, 12), 0.2, "app"), seed=1),
        *poisson(8, 6, terms((12,), 0.2, "app"), seed=2),
    ]
    own = poisson(12, 6, terms(EXITS, 1.3, "own"), seed=3)
    simulate(app + own, shares={"app": 1.0, "own": 1.0})
    assert mean_depth(own) >= 11
    assert np.mean([call.in_time for call in own]) == 1.0


@pytest.mark.parametrize("workers", [1, 2])
def test_predictions_follow_what_answers_take(workers: int) -> None:
    """Of each tier, where others come that are due sooner and the depth changes: within 25 % (median)."""
    tiers = {"soon": (0.2, 20), "later": (1.0, 50), "last": (5.0, 50)}
    ratios: dict[str, list[float]] = {name: [] for name in tiers}
    for run in range(2):
        calls: list[Call] = []
        for seed, (name, (deadline_s, rate)) in enumerate(tiers.items()):
            calls += poisson(rate * workers / 2, 15, terms(EXITS, deadline_s, name), seed=seed + 10 * run)
        simulate(calls, workers=workers, seed=run + 1)
        for call in calls:
            if call.outcome == "answered":
                ratios[call.terms.tier].append(call.predicted_s / call.seconds)
    for name, found in ratios.items():
        assert 0.75 <= np.median(found) <= 1.25, name


@pytest.mark.parametrize(("load", "texts"), [(1.0, 1), (1.0, 20), (4.0, 1)])
def test_who_has_no_deadline_is_told_how_long_those_with_one_will_keep_it_waiting(load: float, texts: int) -> None:
    """By the depth of the moment they seemed to leave time, or none for ever: up to 4.7 times what it took."""
    hurried = poisson(load * FULL_PER_S, 25, terms(EXITS, 0.5, "app"), seed=1)
    calls = [
        Call(call.at, (30,) * texts, call.terms)
        for call in poisson(0.3 * FULL_PER_S / texts, 25, terms((12,), None, "bulk"), seed=2)
    ]
    simulate(hurried + calls, shares={"app": 1.0, "bulk": 1.0})
    ratios = [call.predicted_s / call.seconds for call in calls if call.at > 5]
    assert 0.75 <= np.median(ratios) <= 1.25
    assert np.percentile(ratios, 90) <= 2


def test_a_plan_tells_what_the_request_is_then_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It told a tenth of it where there was no deadline, and two fifths where others come that are due sooner."""
    submit, told = Scheduler.submit, []

    async def planned(self: Scheduler, texts: Sequence[TokenIds], asked: Terms, **said: Any) -> Answer:
        plan = self.plan(asked, [len(ids) for ids in texts], said["caller"])
        answer = await submit(self, texts, asked, **said)
        told.append((asked.tier, plan.predicted_s / answer.predicted_s))
        return answer

    monkeypatch.setattr(Scheduler, "submit", planned)
    calls = poisson(1.5 * FULL_PER_S, 6, terms(EXITS, 0.2, "soon"), seed=1)
    calls += poisson(0.5 * FULL_PER_S, 6, terms(EXITS, 2.0, "later"), seed=2)
    calls += poisson(0.2 * FULL_PER_S, 6, terms((12,), None, "bulk"), seed=3)
    simulate(calls)
    for tier in ("soon", "later", "bulk"):
        ratios = [ratio for name, ratio in told if name == tier]
        assert len(ratios) > 50
        assert np.percentile(np.abs(np.log(ratios)), 90) < np.log(1.1), tier


def test_predictions_tell_large_requests_from_single_ones() -> None:
    """Queries were told what documents in the queue take: a quarter of them more than their deadline."""
    queries, documents = [], []
    for run in range(2):
        now = poisson(30, 40, terms(EXITS, 0.15), seed=run)
        large = [Call(call.at, (30,) * 32, call.terms) for call in poisson(0.6, 36, terms((12,), None), seed=run + 5)]
        simulate(now + large, seed=run)
        queries += [(call.predicted_s, call.seconds) for call in now if call.outcome == "answered"]
        documents += [call.predicted_s / call.seconds for call in large]
    told, took = np.array(queries).T
    assert 0.9 <= np.median(told / took) <= 1.1
    assert np.percentile(told / took, 90) <= 2
    assert np.mean(told > 0.15) <= 0.01
    assert 0.75 <= np.median(documents) <= 1.25


def test_what_waits_and_is_due_later_is_foreseen_at_its_pace() -> None:
    """Of a hundred texts 16 are due now and another every tenth of a second; of one request all are."""
    curves = Curves(12)
    queue = columns([0.0, 0.5, 0.5], [160, 30, 10], [0.0] * 3, [12, 12, 1], curves)
    queue.texts[:], queue.later[:], queue.paces[:] = (16, 3, 1), (84, 7, 0), (0.1, 0.1, 0)
    now = Snapshot(0.0, Capacity(COSTS, 1, BatchBounds(512, 0.05, None, 10.0)), Policy(horizon_s=2.0))
    found = foreseen(now).with_later(queue, now)
    assert found.texts.sum() == pytest.approx(20 + 7)
    assert found.tokens.sum() == pytest.approx(270)
    assert found.texts[found.dues <= 1.0].sum() == pytest.approx(10 + 5)
    assert set(found.curves) == {curves.number((12,), (None,))}
    assert np.isinf(found.has).all()


def test_one_beyond_its_share_is_not_let_in_for_time_that_what_is_due_later_needs() -> None:
    curves = Curves(12)
    now = Snapshot(0.0, Capacity(COSTS, 1, BatchBounds(512, 0.05, None, 10.0)), Policy())
    newcomer = Newcomer("app", 0.3, 1.0, 1.0, 0.1, 9.0, np.inf, (1.0, 1.0))
    for pace_s, late in ((0.02, True), (0.2, False)):  # of texts that take 12 ms each
        queue = columns([0.1], [40], [0.0], [12], curves)
        queue.texts[:], queue.later[:], queue.paces[:] = 4, 400, pace_s
        assert (judge(newcomer, queue, now, curves).late_s > 0) == late
