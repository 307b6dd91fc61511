"""What became of the requests: counts, shares, latencies and depths, by policy and tier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from strata.loadtest.mix import Sender
from strata.loadtest.open_loop import Trip
from strata.loadtest.schedule import Schedule

Numbers = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

AT_THE_DOOR = (429, 503)
TIMED_OUT = 504


@dataclass(slots=True, frozen=True)
class Requests:
    """Requests of one policy, one entry each; seconds and NaN for what there is not."""

    due: Numbers  # since the start of the whole schedule
    lag: Numbers  # sent after it was due
    latency: Numbers  # from due to answered
    tier: npt.NDArray[np.int64]
    deadline: Numbers
    status: npt.NDArray[np.int64]  # 0: no answer
    layers: Numbers
    quality: Numbers

    @classmethod
    def of(cls, schedule: Schedule, trips: Sequence[Trip], senders: Sequence[Sender], start: float = 0.0) -> Requests:
        """From what the generator saw; ``start``: where this part begins in the whole schedule."""
        sent, answered, layers, quality = (
            np.array([getattr(trip, name) for trip in trips], dtype=float)  # None becomes NaN
            for name in ("sent", "answered", "layers", "quality")
        )
        return cls(
            due=schedule.times + start,
            lag=np.where(sent < 0, np.nan, sent - schedule.times),
            latency=answered - schedule.times,
            tier=schedule.tiers,
            deadline=np.array([sender.deadline_s for sender in senders])[schedule.tiers],
            status=np.array([trip.status for trip in trips], dtype=np.int64),
            layers=layers,
            quality=quality,
        )

    @classmethod
    def joined(cls, parts: Sequence[Requests]) -> Requests:
        """Parts one after the other."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    def where(self, chosen: Mask) -> Requests:
        """Some of them."""
        return Requests(*(getattr(self, name)[chosen] for name in self.__slots__))

    @property
    def in_time(self) -> Mask:
        """Answered with vectors by the deadline."""
        return np.asarray((self.status == 200) & (self.latency <= self.deadline))

    @property
    def refused(self) -> Mask:
        """Refused on arrival."""
        return np.asarray(np.isin(self.status, AT_THE_DOOR))


@dataclass(slots=True, frozen=True)
class Summary:
    """One policy's requests, or one tier's of them. Latencies in ms; NaN where there is nothing to take a mean of."""

    offered: int
    in_time: int
    late: int  # answered after the deadline
    refused: Mapping[int, int]  # on arrival, by status
    timed_out: int  # 504
    errors: int  # any other status, or no answer
    goodput: float  # answers in time a second
    p50_ms: float  # of answers, late ones too
    p99_ms: float
    depth: float  # mean layers of answers
    quality: float  # mean, of answers in time
    full_depth: float  # share of answers that ran all layers

    @property
    def attainment(self) -> float:
        """Answers in time, as a share of the requests that were let in."""
        accepted = self.offered - sum(self.refused.values())
        return self.in_time / accepted if accepted else float("nan")

    @property
    def refused_share(self) -> float:
        """Of all offered."""
        return sum(self.refused.values()) / self.offered if self.offered else float("nan")

    @property
    def missed_share(self) -> float:
        """Not answered in time, for whatever reason, of all offered."""
        return 1 - self.in_time / self.offered if self.offered else float("nan")

    def written(self) -> dict[str, Any]:
        """For the file, where NaN is null."""
        shares = {name: getattr(self, name) for name in ("attainment", "refused_share", "missed_share")}
        return {name: None if value != value else value for name, value in {**asdict(self), **shares}.items()}


def summarize(requests: Requests, seconds: float, full: int) -> Summary:
    """Sum up requests that came over so many seconds; ``full``: layers of full depth."""
    answered = requests.status == 200
    in_time, refused = requests.in_time, requests.refused
    latency = requests.latency[answered] * 1e3
    p50, p99 = np.percentile(latency, [50, 99]) if len(latency) else (np.nan, np.nan)
    return Summary(
        offered=len(requests.status),
        in_time=int(in_time.sum()),
        late=int((answered & ~in_time).sum()),
        refused=dict(sorted(Counter(requests.status[refused].tolist()).items())),
        timed_out=int((requests.status == TIMED_OUT).sum()),
        errors=int((~answered & ~refused & (requests.status != TIMED_OUT)).sum()),
        goodput=float(in_time.sum()) / seconds,
        p50_ms=float(p50),
        p99_ms=float(p99),
        depth=_mean(requests.layers[answered]),
        quality=_mean(requests.quality[in_time]),
        full_depth=_mean((requests.layers[answered] == full).astype(float)),
    )


def _mean(values: Numbers) -> float:
    said = values[~np.isnan(values)]
    return float(said.mean()) if len(said) else float("nan")
