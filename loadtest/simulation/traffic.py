"""Simulated callers: requests that arrive when they do, and what became of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from strata.app.planning.cost import CostModel, Load
from strata.app.planning.plan import Terms
from strata.app.scheduling.errors import DeadlinePassed, EngineFailure, NotServing, Overloaded, TooBusy
from strata.app.scheduling.limits import Limits
from strata.app.scheduling.policy import Policy
from strata.app.scheduling.scheduler import Scheduler
from strata.app.telemetry.metrics import Metrics
from strata.loadtest.simulation.clock import VirtualLoop
from strata.loadtest.simulation.engine import SimulatedPool, Speed

_SETTLE_S = 60.0  # after the last arrival, until everything must be over
_AGAIN_S = 0.1  # after a refusal


@dataclass(slots=True)
class Call:
    """A request: when it arrives (virtual seconds), the tokens of its texts, its terms; then what became of it."""

    at: float
    lengths: tuple[int, ...]
    terms: Terms
    leaves_after: float | None = None  # seconds after which the caller hangs up
    caller: str = ""
    outcome: str = ""  # "answered", "refused", "full", "expired", "failed", "left", "unavailable"
    answers: int = 0
    seconds: float = 0.0
    layers: int = 0
    retry_after_s: float = 0.0
    predicted_s: float = 0.0

    @property
    def in_time(self) -> bool:
        """Answered within its deadline."""
        return self.outcome == "answered" and self.seconds <= (self.terms.deadline_s or np.inf)


class Decisions(Metrics):
    """Metrics that keep how long each choice of a batch took, in real seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.decisions: list[float] = []

    def decided(self, seconds: float) -> None:
        """A batch and its depths were chosen."""
        super().decided(seconds)
        self.decisions.append(seconds)


@dataclass
class Replica:
    """One server: its scheduler and its engine."""

    pool: SimulatedPool
    scheduler: Scheduler
    metrics: Decisions
    outstanding: int = 0


def simulate(
    calls: Sequence[Call],
    *,
    layers: int = 12,
    replicas: int = 1,
    workers: int = 2,
    policy: Policy | None = None,
    front_s: float = 0.0,
    speed: Speed | None = None,
    seed: int = 0,
    shares: dict[str, float] | None = None,
    limits: Limits | None = None,
    real_speed: Speed | None = None,
    prepare: Callable[[SimulatedPool], None] = lambda pool: None,
    watch: Callable[[tuple[int, int]], None] = lambda waiting: None,
    at: Sequence[tuple[float, Callable[[SimulatedPool], None]]] = (),
) -> list[Replica]:
    """Run the calls to their end, each on the replica with the fewest outstanding ones; they note their outcomes.

    ``speed`` is what is measured at warm-up, ``real_speed`` (default: the same) what batches take. ``prepare`` may
    break an engine; ``front_s`` is what each request takes of the front, one after the other; ``watch`` is told the
    texts and tokens that wait, after each arrival; ``at`` does something to every engine at a time.
    """
    loop = VirtualLoop()
    speed = speed or Speed()
    try:
        fleet = []
        for number in range(replicas):
            pool = SimulatedPool(workers, real_speed or speed, np.random.default_rng(seed + number))
            prepare(pool)
            for moment, what in at:
                loop.call_later(moment, what, pool)
            fleet.append(_replica(loop, pool, layers, speed, shares or {}, limits or Limits(), policy))
        loop.run_until_complete(_run(loop, calls, fleet, watch, front_s))
    finally:
        loop.close()
    return fleet


def simulate_closed(
    connections: int,
    next_call: Callable[[], Call],
    seconds: float,
    *,
    layers: int = 12,
    workers: int = 2,
    seed: int = 0,
) -> list[Call]:
    """All calls of so many connections, each of which asks again once it is answered, or refused a moment ago."""
    loop, speed, calls = VirtualLoop(), Speed(), list[Call]()

    async def connection(replica: Replica) -> None:
        while loop.time() < seconds:
            call = next_call()
            call.at = loop.time()
            calls.append(call)
            await _call(loop, call, replica)
            if call.outcome != "answered":
                await asyncio.sleep(_AGAIN_S)

    async def run() -> None:
        pool = SimulatedPool(workers, speed, np.random.default_rng(seed))
        replica = _replica(loop, pool, layers, speed, {}, Limits(), None)
        await asyncio.gather(*(connection(replica) for _ in range(connections)))

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()
    return calls


def _replica(
    loop: VirtualLoop,
    pool: SimulatedPool,
    layers: int,
    speed: Speed,
    shares: dict[str, float],
    limits: Limits,
    policy: Policy | None,
) -> Replica:
    cost = CostModel()
    shapes = [Load.alike(k, n, d) for k in (1, 8) for n in (8, 16, 60, 200) for d in (1, layers // 2)]
    cost.measured([(load, speed.seconds(load)) for load in shapes])
    metrics = Decisions()
    scheduler = Scheduler(
        pool,
        limits,
        metrics,
        cost,
        layers,
        policy=policy,
        clock=loop.time,
    )
    scheduler.set_shares(shares)
    return Replica(pool, scheduler, metrics)


async def _run(
    loop: VirtualLoop,
    calls: Sequence[Call],
    fleet: list[Replica],
    watch: Callable[[tuple[int, int]], None],
    front_s: float,
) -> None:
    tasks: list[asyncio.Task[None]] = []
    free = 0.0  # when the front is done with those before
    for call in sorted(calls, key=lambda c: c.at):
        free = max(free, call.at) + front_s
        if free > loop.time():
            await asyncio.sleep(free - loop.time())
        replica = min(fleet, key=lambda r: r.outstanding)
        replica.pool.front_busy_s += front_s
        tasks.append(loop.create_task(_call(loop, call, replica)))
        watch((replica.scheduler.waiting_tickets, replica.scheduler.waiting_tokens))
    if tasks:
        _, unfinished = await asyncio.wait(tasks, timeout=_SETTLE_S)
        assert not unfinished, f"{len(unfinished)} requests were never answered"
        for task in tasks:
            task.result()
    await asyncio.sleep(_SETTLE_S)  # batches whose callers have left run to their end


async def _call(loop: VirtualLoop, call: Call, replica: Replica) -> None:
    texts = [np.zeros(n, np.int32) for n in call.lengths]
    replica.outstanding += 1
    try:
        async with asyncio.timeout(call.leaves_after):
            answer = await replica.scheduler.submit(
                texts, call.terms, normalize=True, arrived=call.at, caller=call.caller
            )
        call.outcome, call.layers, call.predicted_s = "answered", answer.layers, answer.predicted_s
        call.answers += 1
        assert answer.vectors.shape == (len(texts), call.terms.dim)
    except TooBusy as error:
        call.outcome, call.retry_after_s = "refused", error.retry_after_s
    except Overloaded:
        call.outcome = "full"
    except NotServing:
        call.outcome = "unavailable"
    except DeadlinePassed:
        call.outcome = "expired"
    except EngineFailure:
        call.outcome = "failed"
    except TimeoutError:
        call.outcome = "left"
    finally:
        replica.outstanding -= 1
        call.seconds = loop.time() - call.at
