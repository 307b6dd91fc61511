"""When requests come: random arrivals of a given burstiness along a rate that may change with time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]  # [arrivals], seconds from the start, ascending
Profile = Sequence[
    tuple[float, float]
]  # (second, arrivals a second), joined by straight lines; two at one second: a step

_GRID_S = 0.005


def draw(profile: Profile, cv2: float, random: np.random.Generator) -> Times:
    """Arrivals of a renewal process whose gaps are gamma with squared coefficient of variation ``cv2``.

    ``cv2`` 1 is Poisson; 2, 4 and 8 are the bursty arrivals of SuperServe (NSDI'25). The process is drawn at rate 1 and
    stretched along the profile's integral. The number of arrivals is the expected one, rounded, so that two seeds offer
    the same mean load. Raises ValueError for a ``cv2`` that is not positive.
    """
    if cv2 <= 0:
        raise ValueError(f"cv2 must be above 0 (1 is Poisson). Given: {cv2:g}")
    seconds, rates = np.array(profile, dtype=float).T
    grid = np.linspace(0.0, seconds[-1], round(seconds[-1] / _GRID_S) + 1)
    middles = (grid[1:] + grid[:-1]) / 2
    expected = np.concatenate([[0.0], np.cumsum(np.interp(middles, seconds, rates) * np.diff(grid))])
    count = round(float(expected[-1]))
    gaps = random.gamma(1 / cv2, cv2, count + 1)
    moments = np.cumsum(gaps)
    times: Times = np.interp(moments[:-1] / moments[-1] * expected[-1], expected, grid)
    return times


def busiest(times: Times, window_s: float = 1.0, sizes: Times | None = None) -> float:
    """The highest rate over whole windows, in arrivals a second, or in what they hold."""
    if not len(times):
        return 0.0
    return float(np.bincount((times / window_s).astype(int), sizes).max() / window_s)
