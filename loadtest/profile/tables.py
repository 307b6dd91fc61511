"""What was measured of a bundle, as tables of 80 columns."""

from __future__ import annotations

from strata import terminal
from strata.model_store.bundle.latency import LatencyProfile
from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.measured import Agreement
from strata.model_store.bundle.output_types import OutputType
from strata.model_store.bundle.quality import Dtype, Quality


def show_latency(profile: LatencyProfile) -> None:
    """Milliseconds by layers, a column for each kind of batch."""
    kinds = sorted({(timing.texts, timing.tokens) for timing in profile.timings})
    by_kind = {(t.layers, t.texts, t.tokens): 1000 * t.seconds for t in profile.timings}
    rows = [
        [str(layers), *(f"{by_kind[layers, *kind]:.1f}" for kind in kinds)]
        for layers in sorted({timing.layers for timing in profile.timings})
    ]
    title = f"latency in ms by texts x tokens, {profile.backend} {profile.dtype} on {profile.machine}"
    columns = ("layers>", *(f"{texts}x{tokens}>" for texts, tokens in kinds))
    terminal.show(terminal.head(title), terminal.table(columns, rows))


def show_quality(manifest: Manifest, quality: Quality, dtype: Dtype | None = None) -> None:
    """A table for each task: shares by layers and dims, and the worst set at full length."""
    for side in ("alike", "queries"):
        for task in quality.tasks(side, dtype):
            rows = []
            for layers in manifest.query_exits:
                worths = [quality.worth(task, layers, dim, side, dtype) for dim in manifest.dims]
                full = worths[-1]
                worst = f"{full.worst:.3f} {full.worst_set}" if full else ""
                if any(worths):
                    rows.append([str(layers), *(f"{w.share:.3f}" if w else "-" for w in worths), worst])
            queries = ", queries on full-depth documents" if side == "queries" else ""
            title = f"{task}{queries}: shares of {quality.reference}, {dtype or quality.dtype}, by dims"
            columns = ("layers>", *(f"{dim}>" for dim in manifest.dims), "worst set")
            terminal.show(terminal.head(title), terminal.table(columns, rows))


def show_cost(manifest: Manifest, quality: Quality, kind: OutputType) -> None:
    """Shares of a type of output less those of float, a table for each task."""
    for task in quality.tasks(output_type=kind):
        rows = []
        for layers in manifest.exits:
            row = [str(layers)]
            for dim in manifest.dims:
                exact, other = quality.worth(task, layers, dim), quality.worth(task, layers, dim, output_type=kind)
                row.append(f"{other.share - exact.share:+.4f}" if exact and other else "-")
            rows.append(row)
        columns = ("layers>", *(f"{dim}>" for dim in manifest.dims))
        terminal.show(
            terminal.head(f"{task}, {kind}, share less that of float, by dims"), terminal.table(columns, rows)
        )


def show_agreement(agreement: Agreement) -> None:
    """How near exits are to full depth, and which may share an index."""
    rows = [
        [str(layers), f"{mean:.3f}", f"{p01:.3f}"]
        for layers, mean, p01 in zip(agreement.exits, agreement.mean[-1], agreement.p01[-1], strict=True)
    ]
    title = f"agreement with full depth, centred cosine over {agreement.count} texts of {agreement.texts}"
    terminal.show(terminal.head(title), terminal.table(("layers>", "mean>", "worst 1 %>"), rows))
    shared = [(str(dim), " ".join(map(str, exits))) for dim, exits in agreement.sharing.items()]
    title = f"exits that may share an index (mean >= {agreement.bar.mean}, worst 1 % >= {agreement.bar.p01})"
    terminal.show(terminal.head(title), terminal.table(("dims>", "exits"), shared))
