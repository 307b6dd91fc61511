"""A key gets its rate, and not a text more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strata.app.callers import bucket
from strata.app.callers.bucket import Bucket


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(bucket, "perf_counter", lambda: self.now)


@given(st.lists(st.tuples(st.floats(0, 2), st.integers(1, 30)), max_size=40))
def test_over_any_time_no_more_passes_than_rate_and_burst_allow(arrivals: list[tuple[float, int]]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        clock = Clock(monkeypatch)
        limit, passed = Bucket(10, 20), 0
        for pause, texts in arrivals:
            clock.now += pause
            before = passed
            if limit.take(texts) == 0.0:
                passed += texts
            assert before <= 20 + 10 * clock.now + 1e-6 or passed == before
            assert passed <= 20 + 10 * clock.now + 30  # one request larger than the bucket may pass a full one


def test_whoever_waits_as_told_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    limit = Bucket(10, None)
    assert limit.take(25) == 0.0  # more than the bucket holds: passes a full one, and is paid for afterwards
    wait = limit.take(1)
    assert wait == pytest.approx(1.6)
    clock.now += wait + 1e-9
    assert limit.take(1) == 0.0
