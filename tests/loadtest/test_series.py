"""What is read at /metrics: samples by name, and the median of a histogram."""

from __future__ import annotations

import asyncio
import math

import pytest

from strata.loadtest.connection import Address, LoadError
from strata.loadtest.series import histogram_median, read_series
from tests.conftest import RunningServer


def test_a_median_lies_within_its_bucket() -> None:
    counts = {'x_bucket{le="0.1"}': 2.0, 'x_bucket{le="0.3"}': 10.0, 'x_bucket{le="+Inf"}': 12.0}
    assert histogram_median(counts, "x") == pytest.approx(0.1 + 0.2 * 4 / 8)
    beyond = {'x_bucket{le="0.1"}': 1.0, 'x_bucket{le="+Inf"}': 12.0}
    assert histogram_median(beyond, "x") == 0.1, "the last bound is all that is known"
    assert math.isnan(histogram_median({}, "x"))


def test_a_running_server_tells_its_cost_models_error(server: RunningServer) -> None:
    server.client.post("/embed", json={"inputs": ["river"] * 40})
    address = Address.parse(server.url)
    series = asyncio.run(read_series(address, {}, "te_queue_size"))
    assert histogram_median(series, "strata_cost_error_ratio") >= 0
    with pytest.raises(LoadError, match="no_such_series"):
        asyncio.run(read_series(address, {}, "no_such_series"))
