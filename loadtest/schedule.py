"""What is sent and when, drawn once: every policy gets the very same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from strata.loadtest import arrivals, trace
from strata.loadtest.arrivals import Times
from strata.loadtest.mix import Sender
from strata.loadtest.scenarios import Scenario


@dataclass(slots=True, frozen=True)
class Schedule:
    """Requests: when, from which tier, and which of the texts; what holds several goes on from there."""

    seconds: float  # length
    times: Times  # [n], seconds from the start, ascending
    tiers: npt.NDArray[np.int64]  # [n]
    texts: npt.NDArray[np.int64]  # [n]

    @classmethod
    def draw(
        cls, seconds: float, times: Times, senders: Sequence[Sender], texts: int, random: np.random.Generator
    ) -> Self:
        """Each arrival from a random tier by what it sends; texts one after the other, round and round."""
        requests = np.array([sender.requests for sender in senders])
        tiers = random.choice(len(senders), len(times), p=requests / requests.sum())
        sizes = np.array([sender.texts for sender in senders])[tiers]
        return cls(seconds, times, tiers, (np.cumsum(sizes) - sizes) % texts)

    def cut(self, parts: int) -> list[Schedule]:
        """About equal parts, each cut at the quietest second near its nominal end, so that few bursts are torn.

        Times in a part count from its own start.
        """
        length = self.seconds / parts
        edges = [0.0, *(self._quietest(k * length, length / 4) for k in range(1, parts)), self.seconds]
        found = []
        for begin, end in pairwise(edges):
            inside = (self.times >= begin) & ((self.times < end) | (end == self.seconds))
            found.append(Schedule(end - begin, self.times[inside] - begin, self.tiers[inside], self.texts[inside]))
        return found

    def _quietest(self, around: float, reach: float) -> float:
        starts = np.arange(np.ceil(around - reach), around + reach)
        if not len(starts):
            return around
        counts = [np.count_nonzero((self.times >= start) & (self.times < start + 1)) for start in starts]
        fewest = starts[np.asarray(counts) == min(counts)]
        return float(fewest[np.abs(fewest - around).argmin()])


def arrival_times(scenario: Scenario, capacity: float, file: Path | None, random: np.random.Generator) -> Times:
    """Arrivals of a scenario, given what full depth can carry (texts a second); ``file``: the trace, if it replays one.

    Raises ValueError when they cannot be drawn.
    """
    if scenario.traced != (file is not None):
        raise ValueError(
            "--trace: this scenario replays none; take --scenario burst-trace"
            if file
            else "--trace: name the CSV to replay, e.g. AzureLLMInferenceTrace_code.csv"
        )
    mean, peak = (scenario.mean or 0.0) * capacity, (scenario.peak or 0.0) * capacity
    if file is not None:
        window = trace.window(trace.read(file), scenario.seconds, busy=mean / peak)
        return trace.scale(window, scenario.seconds, mean, peak, random)
    profile = [(at * scenario.seconds, share * (mean or peak)) for at, share in scenario.shape]
    return arrivals.draw(profile, scenario.cv2 or 1.0, random)
