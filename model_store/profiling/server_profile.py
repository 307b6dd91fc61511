"""``strata profile --url``: similarity through a running server, beside what its /info says."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from strata.model_store.profiling.benchmarks import Benchmarks
from strata.model_store.profiling.comparison import Difference, compare
from strata.model_store.profiling.over_http import Server, measure_sts_over_http
from strata.model_store.profiling.sts import StsResult


def profile_server(args: argparse.Namespace) -> int:
    """Measure and print; 1 where a figure of the server's own table is not reproduced."""
    benchmarks = Benchmarks.read(args)
    with Server(args.url) as server:
        info = server.info()
        exits = _among("--exits", args.exits, info["exits"])
        dims = _among("--dims", args.dims, info["dims"])
        print(f"{info['model_id']}, revision {info['model_sha']}, at {args.url}")
        failed = False
        for pairs in benchmarks.sts:
            result = measure_sts_over_http(server, pairs, exits, dims, progress=not args.quiet)
            _show(result)
            difference = _compared(info.get("quality"), result)
            print(difference or f"{result.name}: /info has no table of it to compare with")
            failed |= difference is not None and not difference.reproduced
    return int(failed)


def _compared(quality: Mapping[str, Any] | None, result: StsResult) -> Difference | None:
    if quality is None or quality["benchmark"] != f"{result.name}, cosine Spearman x 100":
        return None
    reference = quality["reference_score"]
    told = {
        int(layers): {int(dim): share * reference for dim, share in row.items()}
        for layers, row in quality["shares"].items()
    }
    return compare(f"{result.name}, through the server", told, result.scores)


def _show(result: StsResult) -> None:
    for layers, row in result.scores.items():
        print(f"  {layers:3} layers: " + ", ".join(f"{score:.1f} at {dim} dims" for dim, score in row.items()))


def _among(option: str, chosen: Sequence[int] | None, allowed: Sequence[int]) -> Sequence[int]:
    wrong = sorted(set(chosen or ()) - set(allowed))
    if wrong:
        raise ValueError(f"{option}: the server has {', '.join(map(str, allowed))}. Given: {wrong[0]}")
    return chosen or allowed
