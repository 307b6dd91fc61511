"""The loads under which the promises about deadlines are measured. Rates are multiples of what full depth can carry."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from strata.loadtest import mix
from strata.loadtest.policies import EVERY

# Time as a share of the length, rate as a share of the mean or peak; straight lines between, a step where times repeat.
CONSTANT = ((0.0, 1.0), (1.0, 1.0))
RAMP = ((0.0, 0.1), (0.5, 1.0), (1.0, 0.1))
STEPS = tuple((0.2 * (i + end), rate) for i, rate in enumerate((0.1, 0.5, 0.1, 1.0, 0.2)) for end in (0, 1))


@dataclass(slots=True, frozen=True)
class Scenario:
    """One load; None for what it has no use for."""

    summary: str
    seconds: int  # for each policy
    mean: float | None = None
    peak: float | None = None
    cv2: float | None = None  # squared coefficient of variation of the gaps between arrivals; 1: Poisson
    traced: bool = False
    shape: tuple[tuple[float, float], ...] = CONSTANT
    tiers: Path = mix.TIERS
    mix: tuple[str, ...] = mix.DEFAULT  # who sends how much of it
    min_layers: int | None = None  # floor for every tier where the server chooses
    policies: tuple[str, ...] = EVERY
    # Bars on the elastic policy; None: not promised under this load.
    attainment: float | None = None  # of accepted requests, each tier
    refused: float | None = None  # share of all, at most
    quality: float | None = None  # of answers in time, as a share of full depth's
    fewer_misses: float | None = None  # times, against the best fixed depth of no less mean quality
    goodput: float | None = None  # times full depth's
    full_depth: float | None = None  # share of answers
    first: tuple[float, float] | None = (
        None  # of the tier with the shortest deadline: in time of all offered, mean depth
    )

    def with_options(
        self,
        *,
        seconds: int | None = None,
        mean: float | None = None,
        peak: float | None = None,
        cv2: float | None = None,
    ) -> Scenario:
        """With the options given (not None). Raises ValueError for one that this load has no use for."""
        given = {"seconds": seconds, "mean": mean, "peak": peak, "cv2": cv2}
        said = {name: value for name, value in given.items() if value is not None}
        for name, value in said.items():
            if getattr(self, name) is None:
                raise ValueError(f"--{name}: the scenario has none; it has {', '.join(self._has())}")
            if value <= 0:
                raise ValueError(f"--{name}: must be above 0. Given: {value:g}")
        return replace(
            self, seconds=seconds or self.seconds, mean=mean or self.mean, peak=peak or self.peak, cv2=cv2 or self.cv2
        )

    def _has(self) -> list[str]:
        return [f"--{name}" for name in ("seconds", "mean", "peak", "cv2") if getattr(self, name) is not None]


_BURST = Scenario(
    "", 80, mean=0.7, attainment=0.99, refused=0.01, quality=0.97, fewer_misses=2.0
)  # what is promised under either kind of burst

SCENARIOS = {
    "burst-trace": replace(_BURST, summary="a recorded trace, its bursts clipped at the peak", peak=4.0, traced=True),
    "burst-gamma": replace(_BURST, summary="gamma arrivals with CV^2 8", cv2=8.0),
    "overload": Scenario(
        "2.5 times the capacity of full depth, floor 3 layers", 60, mean=2.5, cv2=1.0, min_layers=3, goodput=2.2
    ),
    "low": Scenario(
        "Poisson arrivals at a fifth of the capacity",
        90,
        mean=0.2,
        cv2=1.0,
        policies=("full", "elastic"),
        full_depth=0.99,
    ),
    "ramp": Scenario("Poisson arrivals, linearly up to the peak and down again", 80, peak=3.0, cv2=1.0, shape=RAMP),
    "steps": Scenario("Poisson arrivals, between quiet and the peak in steps", 80, peak=3.0, cv2=1.0, shape=STEPS),
    "one-tier": Scenario(
        "gamma arrivals with CV^2 8, one tier with 100 ms and a floor of 2 layers",
        60,
        mean=0.7,
        cv2=8.0,
        tiers=mix.FOLDER / "one.toml",
        mix=("only=1",),
        attainment=0.995,
        refused=0.003,
        first=(0.995, 8.0),
    ),
    "two-tiers": Scenario(
        "a tier within its share of nine tenths beside one that offers 1.2 times capacity",
        30,
        mean=1.8,
        cv2=1.0,
        tiers=mix.FOLDER / "two.toml",
        mix=("large=0.6", "small=1.2"),
        policies=("elastic",),
        first=(0.99, 11.0),
    ),
    "two-tiers-flood": Scenario(
        "the same, and the other offers 2.5 times capacity",
        30,
        mean=3.1,
        cv2=1.0,
        tiers=mix.FOLDER / "two.toml",
        mix=("large=0.6", "small=2.5"),
        policies=("elastic",),
        first=(0.99, 11.0),
    ),
    "many-texts": Scenario(
        "single texts within 250 ms beside requests of 32 texts within 5 s",
        60,
        mean=1.2,
        cv2=1.0,
        mix=("interactive=0.6", "bulk=0.6x32"),
        policies=("full", "half", "elastic"),
        attainment=0.99,
        refused=0.01,
        first=(0.99, 10.0),
    ),
    "ten-tiers": Scenario(
        "ten tiers of as many deadlines, floors and shares, between quiet and the peak in steps",
        60,
        peak=3.0,
        cv2=2.0,
        shape=STEPS,
        tiers=mix.FOLDER / "ten.toml",
        mix=tuple(f"t{i}=0.1" for i in range(10)),
        policies=("full", "half", "elastic"),
    ),
}
