"""A picture of what depth costs and what it gives: quality over exit and dim, latency over exit and batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from strata.model_store.bundle.latency import LatencyProfile
from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.quality import Side

_SIDES: dict[Side, str] = {"alike": "both sides at the exit", "queries": "queries on full-depth documents"}


def draw(file: Path, name: str, manifest: Manifest, latency: LatencyProfile | None) -> bool:
    """Write the PNG with a panel for each task and for the latency, as far as they were measured; False: none was."""
    import matplotlib as mpl

    mpl.use("Agg")  # no display is needed, or looked for
    from matplotlib import pyplot as plt

    panels = [panel for panel in (*_quality(manifest), _latency(latency)) if panel]
    if not panels:
        return False
    figure, places = plt.subplots(1, len(panels), figsize=(6.4 * len(panels), 6), squeeze=False, layout="constrained")
    figure.suptitle(name)
    for place, (title, across, exits, columns, values, shape) in zip(places[0], panels, strict=True):
        shades = values if "Quality" in title else np.log(values)
        place.imshow(shades, aspect="auto", origin="lower", cmap="Blues")
        place.set_title(title, fontsize=9)
        place.set_xlabel(across)
        place.set_ylabel("layers")
        place.set_xticks(range(len(columns)), columns)
        place.set_yticks(range(len(exits)), exits)
        for (row, column), value in np.ndenumerate(values):
            dark = shades[row, column] > (shades.min() + shades.max()) / 2
            colour = "white" if dark else "black"
            place.text(column, row, shape.format(value), ha="center", va="center", color=colour, fontsize=8)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    plt.close(figure)
    return True


Panel = tuple[str, str, Sequence[int], Sequence[int], npt.NDArray[np.float64], str]


def _quality(manifest: Manifest) -> list[Panel]:
    quality = manifest.quality
    panels: list[Panel] = []
    for side in _SIDES if quality else ():
        for task in quality.tasks(side) if quality else ():
            assert quality is not None
            worths = [[quality.worth(task, e, d, side) for d in manifest.dims] for e in manifest.exits]
            if any(worth is None for row in worths for worth in row):
                continue
            values = np.array([[100 * worth.share for worth in row if worth] for row in worths])
            title = f"Quality: {task}, {_SIDES[side]}\n(% of {quality.reference})"
            panels.append((title, "dims", manifest.exits, manifest.dims, values, "{:.1f}"))
    return panels


def _latency(profile: LatencyProfile | None) -> Panel | None:
    if profile is None:
        return None
    lengths = sorted({timing.tokens for timing in profile.timings})
    length = lengths[len(lengths) // 2]
    found = {(t.layers, t.texts): 1000 * t.seconds for t in profile.timings if t.tokens == length}
    exits, batches = sorted({e for e, _ in found}), sorted({n for _, n in found})
    values = np.array([[found[exit, batch] for batch in batches] for exit in exits])
    title = f"Latency in ms, texts of {length} tokens\n({profile.backend} {profile.dtype}, {profile.machine})"
    return title, "texts in the batch", exits, batches, values, "{:.1f}"
