"""What a server tells of itself at /metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise

from strata.loadtest.connection import Address, LoadError, fetch

_BUCKET = r'{}_bucket\{{le="([^"]+)"\}}'


async def read_series(address: Address, headers: Mapping[str, str], *names: str) -> dict[str, float]:
    """Every sample by its name and labels, as written there. Raises LoadError where one of ``names`` is missing."""
    response = await fetch(address, address.get("/metrics", headers))
    lines = (line.rsplit(" ", 1) for line in response.body.decode().splitlines() if not line.startswith("#"))
    found = {line[0]: float(line[1]) for line in lines if len(line) == 2}
    if missing := [name for name in names if name not in found]:
        raise LoadError(f"/metrics does not tell {', '.join(missing)} (status {response.status})")
    return found


def histogram_median(series: Mapping[str, float], name: str) -> float:
    """The median of a histogram without labels, as Prometheus reckons it: even within a bucket. NaN of nothing."""
    pattern = re.compile(_BUCKET.format(name))
    buckets = sorted((float(match[1]), count) for key, count in series.items() if (match := pattern.fullmatch(key)))
    if not buckets or not buckets[-1][1]:
        return float("nan")
    half = buckets[-1][1] / 2
    for (low, before), (high, until) in pairwise([(0.0, 0.0), *buckets]):
        if until >= half:
            return low if high == float("inf") else low + (high - low) * (half - before) / (until - before)
    return float("nan")
