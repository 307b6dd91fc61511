"""Arrivals of a recorded trace, scaled to the machine that replays them."""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from strata.loadtest.arrivals import Times

_SCALES_S = (1, 10)  # a representative window has the trace's bursts, and its busy and quiet stretches
_STEPS = 60  # halvings: exact to the last bit


def read(file: Path) -> Times:
    """Seconds of every arrival since the first, of a CSV with a TIMESTAMP column in ISO format.

    That is the form of the Azure LLM inference traces (github.com/Azure/AzurePublicDataset); other columns are ignored.
    Raises ValueError naming the file when it is not such a table.
    """
    with file.open(encoding="utf-8-sig", newline="") as lines:
        try:
            moments = [datetime.fromisoformat(row["TIMESTAMP"]) for row in csv.DictReader(lines)]
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise ValueError(f"{file}: not a CSV with a TIMESTAMP column of ISO times ({error})") from error
    if len(moments) < 2:
        raise ValueError(f"{file}: {len(moments)} arrivals; a trace needs at least 2")
    return np.array(sorted((moment - moments[0]).total_seconds() for moment in moments))


def window(times: Times, seconds: int, busy: float = 0.0) -> Times:
    """The stretch of the trace that is most like the whole, its seconds counted from its own start.

    Of all stretches that begin at a whole second and have an arrival in at least the share ``busy`` of their seconds:
    the one whose counts per second and per ten seconds, sorted, differ least from the trace's (the sum of both
    Wasserstein distances, each as a share of the mean). No luck and no choice: the same arguments give the
    same window. Raises ValueError when the trace is shorter, or nowhere so busy.
    """
    counts = np.bincount(times.astype(int))
    if seconds > len(counts):
        raise ValueError(f"the trace is {len(counts)} s long; {seconds} s were asked for")
    distance = np.zeros(len(counts) - seconds + 1)
    for scale in _SCALES_S:
        sums = np.convolve(counts, np.ones(scale), "valid")
        views = np.sort(np.lib.stride_tricks.sliding_window_view(sums, max(1, seconds - scale + 1)), axis=1)
        whole = np.quantile(sums, (np.arange(views.shape[1]) + 0.5) / views.shape[1])
        distance += np.abs(views - whole).mean(axis=1)[: len(distance)] / sums.mean()
    share = np.convolve(counts > 0, np.ones(seconds), "valid") / seconds
    if share.max() < busy:
        raise ValueError(f"no {seconds} s of the trace have arrivals in {busy:.0%} of their seconds")
    start = int(np.where(share < busy, np.inf, distance).argmin())
    inside = times[(times >= start) & (times < start + seconds)]
    return inside - start


def scale(times: Times, seconds: int, mean: float, peak: float, random: np.random.Generator) -> Times:
    """The same bursts at another rate: ``mean`` arrivals a second over ``seconds``, in no second more than ``peak``.

    The count of each second is multiplied by one factor and clipped at the peak; the factor is the one at which the
    mean comes out. Counts are rounded so that their sum is kept. Inside a second arrivals keep their real offsets: of
    too many, some are drawn; where more are needed than there are, all are kept and copies of randomly drawn ones are
    added, moved by at most half the second's mean gap either way (one that would leave its second comes in at the
    other end).
    Raises ValueError when the trace has too few busy seconds for that mean below that peak.
    """
    counts = np.bincount(times.astype(int), minlength=seconds)
    wanted = _spread(np.minimum(_factor(counts, mean, peak) * counts, peak))
    scaled = [
        second + _resample(times[times.astype(int) == second] - second, int(wanted[second]), random)
        for second in np.flatnonzero(wanted)
    ]
    return np.sort(np.concatenate(scaled))


def _factor(counts: npt.NDArray[np.int64], mean: float, peak: float) -> float:
    most = peak * float((counts > 0).mean())
    if most < mean:
        raise ValueError(f"at most {peak:g} in a second give this trace a mean of at most {most:.3g}. Given: {mean:g}")
    low, high = 0.0, peak  # at `peak` every second with an arrival is clipped
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if np.minimum(middle * counts, peak).mean() < mean else (low, middle)
    return high


def _spread(rates: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Whole numbers whose running sum never differs from the rates' by more than a half."""
    return np.diff(np.rint(np.cumsum(rates)), prepend=0.0).astype(np.int64)


def _resample(offsets: Times, wanted: int, random: np.random.Generator) -> Times:
    if wanted <= len(offsets):
        return random.choice(offsets, wanted, replace=False)
    copies = random.choice(offsets, wanted - len(offsets))
    copies += random.uniform(-0.5, 0.5, len(copies)) / len(offsets)
    return np.concatenate([offsets, copies % 1.0])
