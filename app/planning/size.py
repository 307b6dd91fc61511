"""How many replicas a load takes: texts a second of a core by depth and length, from the latency profile."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from strata import extras, terminal
from strata.model_store.bundle import latency, registry
from strata.model_store.bundle.bundle import WEIGHTS, read_manifest
from strata.model_store.bundle.latency import LatencyProfile
from strata.model_store.bundle.manifest import Manifest


@dataclass(frozen=True)
class Demand:
    """What is to be carried: texts a second, tokens of each, and how busy a core may be on average."""

    rate: float
    tokens: int
    busy: float
    cores: int  # of a replica


def size(model: str | None, load: Demand) -> dict[str, Any]:
    """The sizing as data. Raises LookupError for an unknown model, or one without a profile on this machine."""
    path = registry.find(model or registry.DEFAULT)
    manifest = read_manifest(path)
    known = latency.known(manifest.revision)
    if not known:
        raise LookupError(
            f"{manifest.name} has no latency profile on this machine ({latency.machine()}); make one: "
            f"strata profile {model or registry.DEFAULT} --no-agreement (its packages: {extras.install(extras.TRAIN)})"
        )
    profile = known[0]
    lengths = sorted({timing.tokens for timing in profile.timings})
    rows = []
    for layers in sorted({timing.layers for timing in profile.timings}):
        rates = {length: core_rate(profile, layers, length) for length in lengths}
        own = core_rate(profile, layers, load.tokens)
        replica = own * load.cores * load.busy
        rows.append(
            {
                "layers": layers,
                "quality": _quality(manifest, layers),
                "texts_per_core_s": {str(length): round(rate, 1) for length, rate in rates.items()},
                "texts_per_replica_s": round(replica, 1),
                "replicas": math.ceil(load.rate / replica),
            }
        )
    return {
        "model": manifest.name,
        "revision": manifest.revision,
        "machine": profile.machine,
        "engine": {name: getattr(profile, name) for name in ("backend", "dtype", "device", "threads")},
        "rate": load.rate,
        "tokens": load.tokens,
        "busy": load.busy,
        "cores": load.cores,
        "outside_the_profile": not lengths[0] <= load.tokens <= lengths[-1],
        "weights_bytes": (path / WEIGHTS).stat().st_size,
        "depths": rows,
    }


def core_rate(profile: LatencyProfile, layers: int, tokens: int) -> float:
    """Texts a second of one core, in the batches that do most.

    Time goes between the two measured lengths around ``tokens`` along a line, and on along the last one outside.
    """
    best: dict[int, float] = {}
    for timing in profile.timings:
        if timing.layers == layers:
            each = timing.seconds / timing.texts
            best[timing.tokens] = min(each, best.get(timing.tokens, math.inf))
    return 1 / (_on_line(sorted(best.items()), tokens) * profile.threads)


def _on_line(points: Sequence[tuple[int, float]], at: int) -> float:
    if len(points) == 1:
        return points[0][1] * at / points[0][0]
    after = next((i for i, (x, _) in enumerate(points) if x >= at and i), len(points) - 1)
    (x0, y0), (x1, y1) = points[after - 1], points[after]
    # Below the shortest length a line may fall to nothing; a text never takes less than its share of it.
    return max(y0 + (y1 - y0) * (at - x0) / (x1 - x0), y0 * min(1.0, at / x0))


def show(found: dict[str, Any]) -> None:
    """Print it, in 80 columns."""
    engine = found["engine"]
    lengths = list(found["depths"][0]["texts_per_core_s"])
    terminal.show(
        terminal.facts(
            [
                ("model", f"{found['model']}, revision {found['revision']}"),
                ("measured", f"{engine['backend']} {engine['dtype']} on {found['machine']}"),
                (
                    "load",
                    f"{found['rate']:g} texts/s of {found['tokens']} tokens; replicas of {found['cores']} cores, busy "
                    f"for {found['busy']:.0%} of the time",
                ),
                (
                    "memory",
                    f"{found['weights_bytes'] / 2**20:.0f} MiB of weights as stored, once a replica; what a replica "
                    "takes in all, strata top says",
                ),
            ]
        )
    )
    rows = [
        (
            str(row["layers"]),
            "-" if row["quality"] is None else f"{row['quality']:.3f}",
            *(f"{row['texts_per_core_s'][length]:.0f}" for length in lengths),
            f"{row['texts_per_replica_s']:.0f}",
            str(row["replicas"]),
        )
        for row in found["depths"]
    ]
    columns = ("layers>", "quality>", *(f"{length} tokens>" for length in lengths), "replica>", "replicas>")
    terminal.show(
        terminal.head("texts/s of a core by length, of a replica, and replicas needed"), terminal.table(columns, rows)
    )
    if found["outside_the_profile"]:
        terminal.show(
            f"{found['tokens']} tokens lie outside what was measured: strata profile --lengths measures more."
        )


def _quality(manifest: Manifest, layers: int) -> float | None:
    """The least share of any task at full length: what a plan counts where no task is named."""
    if manifest.quality is None:
        return None
    worths = [manifest.quality.worth(task, layers, manifest.full_dim) for task in manifest.quality.tasks()]
    shares = [worth.share for worth in worths if worth]
    return round(min(shares), 4) if shares else None
