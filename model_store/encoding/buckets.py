"""Micro-batches of near-equal length: padding is work thrown away."""

from __future__ import annotations

from collections.abc import Sequence

_MIN_FILL = 0.8  # a row shorter than this share of its bucket's longest starts another bucket
_MIN_ROWS = 4  # below this a bucket costs more in calls than its padding does


def buckets(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Row indices by bucket, longest first; a bucket holds at most ``max_tokens`` tokens, padding included."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    made: list[list[int]] = []
    for row in order:
        if made:
            bucket = made[-1]
            longest = lengths[bucket[0]]
            room = (len(bucket) + 1) * longest <= max_tokens
            close = len(bucket) < _MIN_ROWS or lengths[row] >= _MIN_FILL * longest
            if room and close:
                bucket.append(row)
                continue
        made.append([row])
    return made
