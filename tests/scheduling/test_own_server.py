"""What a server of a flow's own would have to do: what is due soonest first, and nothing late for it."""

from __future__ import annotations

from math import inf

import pytest

from strata.app.planning.cost import CostModel
from strata.app.scheduling.learnt import Learnt
from strata.app.scheduling.own_server import OwnServer


def test_one_with_little_time_does_not_wait_for_those_with_more() -> None:
    server = OwnServer(0.0)
    server.promise(2.0, 0.5, 4.0)
    assert server.before(1.0, 0.0) == (0.0, 3.5), "and may take what they can spare"
    assert server.before(2.0, 0.0) == (0.5, inf)
    assert server.before(9.0, 0.0) == (0.5, inf)


def test_it_runs_the_shortest_first_and_forgets_what_is_done() -> None:
    server = OwnServer(0.0)
    server.promise(4.0, 2.0, 9.0)
    server.promise(1.0, 0.25, 1.0)
    assert server.before(4.0, 0.5) == pytest.approx((1.75, inf))
    assert server.before(1.0, 0.5) == pytest.approx((0.0, 6.75))
    assert not server.idle(2.0)
    assert server.idle(2.5)


def test_what_it_promised_is_kept_from_those_who_come_later_and_are_due_sooner() -> None:
    server = OwnServer(0.0)
    server.promise(2.0, 1.0, 1.2)
    server.promise(1.0, 0.1, 0.5)
    assert server.before(1.0, 0.0) == pytest.approx((0.1, 0.1))


def test_what_is_given_back_is_not_done() -> None:
    server = OwnServer(0.0)
    server.promise(1.0, 0.5, 1.0)
    server.promise(2.0, 0.5, 2.0)
    server.give_back(1.0, 0.2)
    server.give_back(3.0, 9.0)
    assert server.before(2.0, 0.0)[0] == pytest.approx(0.8)
    server.give_back(2.0, 9.0)
    assert server.before(2.0, 0.0)[0] == pytest.approx(0.3), "no more than it had"


def test_servers_of_flows_that_are_gone_are_forgotten() -> None:
    learnt = Learnt(CostModel())
    for caller in range(2000):
        learnt.promised(("app", str(caller)), 1.0, 0.01, 0.1 * caller)
    assert len(learnt._servers) <= 256
    assert learnt.before(("app", "1999"), 1.0, 199.9)[0] == pytest.approx(0.01)
