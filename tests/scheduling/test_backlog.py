"""A tier's backlog as its own share would leave it, whatever the others make it wait."""

from __future__ import annotations

import pytest

from strata.app.scheduling.backlog import Backlogs


def test_what_its_share_carries_leaves_no_backlog_and_a_burst_does() -> None:
    backlogs = Backlogs()
    backlogs.carry({"app": 10.0})
    for at in range(50):
        backlogs.came("app", 1.0, 0.125 * at)
    assert backlogs.read("app", 0.125 * 49) == 1.0, "eight a second of ten"
    backlogs.came("app", 100.0, 7.0)
    assert backlogs.read("app", 9.0) == pytest.approx(80)
    assert backlogs.read("app", 99.0) == 0
    assert backlogs.read("other", 99.0) == 0
