"""``strata profile --url``: quality through a running server, beside what its /info says or into its bundle."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from strata import terminal
from strata.model_store.bundle.bundle import Bundle
from strata.model_store.bundle.quality import Scored
from strata.model_store.bundle.registry import find
from strata.model_store.profiling.benchmarks import Benchmarks
from strata.model_store.profiling.comparison import compare_sets
from strata.model_store.profiling.over_http import Server, ServerEncoder
from strata.model_store.profiling.progress import Progress
from strata.model_store.profiling.quality import with_variant
from strata.model_store.profiling.retrieval import measure_retrieval
from strata.model_store.profiling.set_result import SetResult
from strata.model_store.profiling.sts import measure_sts
from strata.model_store.profiling.write_measured import write_measured


def profile_server(args: argparse.Namespace) -> int:
    """Measure and print; 1 where a figure of the server's own tables is not reproduced."""
    with Server(args.url) as server:
        info = server.info()
        print(f"{info['model_id']}, revision {info['model_sha']}, {info['model_dtype']}, at {args.url}")
        found = measure_server(server, info, args)
    for each in found:
        _show(each)
    if args.model:
        return _into_bundle(args.model, info, found)
    told = _told(info.get("quality"))
    differences = compare_sets(told, found, f", through the server in {info['model_dtype']}")
    for difference in differences:
        print(difference)
    for each in found:
        if each.name not in told:
            print(f"{each.name}: /info has no table of it to compare with")
    return int(not all(difference.reproduced for difference in differences))


def _into_bundle(model: str, info: Mapping[str, Any], found: Sequence[SetResult]) -> int:
    """Write the figures as those of the server's dtype. Raises ValueError where the server serves another model."""
    bundle = Bundle.open(find(model))
    manifest = bundle.manifest
    if manifest.revision != info["model_sha"]:
        raise ValueError(f"the server has revision {info['model_sha']}, the bundle {manifest.revision}")
    if manifest.quality is None:
        raise ValueError(f"{bundle.path}: has no figures yet; measure it without --url first")
    quality = with_variant(manifest.quality, found, info["model_dtype"])
    write_measured(bundle.path, manifest.model_copy(update={"quality": quality}))
    print(f"written: {bundle.path}")
    return 0


def measure_server(server: Server, info: Mapping[str, Any], args: argparse.Namespace) -> list[SetResult]:
    """Every set at the exits and dims chosen, each text sent once for each of them."""
    benchmarks = Benchmarks.read(args)
    exits = _among("--exits", args.exits, info["query_exits"] if benchmarks.retrieval else info["exits"])
    dims = _among("--dims", args.dims, info["dims"])
    alike = [layers for layers in exits if layers]
    last = info["layers"]
    found: dict[str, SetResult] = {}
    with Progress("through the server", benchmarks.characters * len(exits) * len(dims), args.quiet) as bar:
        for dim in dims:
            encoder = ServerEncoder(server, last, dim, bar.told)
            for pairs in benchmarks.sts:
                _keep(found, measure_sts(encoder, pairs, alike, (dim,)))
            for data in benchmarks.retrieval:
                _keep(found, measure_retrieval(encoder, data, alike, (dim,), exits))
    return list(found.values())


def _keep(found: dict[str, SetResult], new: SetResult) -> None:
    old = found.get(new.name)
    found[new.name] = (
        new if old is None else replace(new, alike={**old.alike, **new.alike}, queries={**old.queries, **new.queries})
    )


def _told(quality: Mapping[str, Any] | None) -> dict[str, Scored]:
    if quality is None:
        return {}
    return {
        name: Scored.model_validate({"scores": each["scores"], "queries": each["queries"]})
        for name, each in quality["sets"].items()
    }


def _show(found: SetResult) -> None:
    scores = found.scores("alike")
    dims = list(next(iter(scores.values()), {}))
    rows = [[str(layers), *(f"{row[dim]:.1f}" for dim in dims)] for layers, row in scores.items()]
    columns = ("layers>", *(f"{dim}>" for dim in dims))
    terminal.show(terminal.head(f"{found.name}, {found.metric}, by dims"), terminal.table(columns, rows))


def _among(option: str, chosen: Sequence[int] | None, allowed: Sequence[int]) -> Sequence[int]:
    wrong = sorted(set(chosen or ()) - set(allowed))
    if wrong:
        raise ValueError(f"{option}: the server has {', '.join(map(str, allowed))}. Given: {wrong[0]}")
    return chosen or allowed
