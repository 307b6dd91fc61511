"""The policy: every constant by which requests are let in, ordered, batched and given their depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from strata.app.engine.options import CPU_BATCH_TOKENS


@dataclass(slots=True, frozen=True)
class Policy:
    """What the operator does not set. Frozen: tests and the simulation replace fields, nothing changes them."""

    # Batches.
    # By device: a GPU wants bulk.
    batch_tokens: Mapping[str, int] = field(default_factory=lambda: {"cpu": CPU_BATCH_TOKENS, "cuda": 32_768})
    least_split_tokens: int = 192  # of a worker: sharing less among idle workers costs more than it saves
    batch_share: float = 0.2  # of the usual shortest deadline that a batch may take: whoever has it may come any time
    shortest_quantile: float = 0.005  # of requests may have a shorter deadline than the "usual shortest"
    batch_part: float = 0.9  # of the time left to a request that a batch it is in may be predicted to take
    most_passed: int = 32  # requests that do not fit in a batch, after which no more are looked at

    # Admission.
    within_share: float = 0.9  # of a newcomer's time that its predicted answer may take: predictions err
    beyond_share: float = 0.9  # the same beyond its share: room is left for those who stay within theirs
    within_left: float = 0.6  # of the time left to one within its share, the most that one beyond may make it take
    kept_left: float = 0.35  # the same where its tier keeps its depth, which needs `kept_headroom` of that time
    beyond_sigmas: float = 1.0  # by which more may come of the others than is foreseen, arrivals being random
    others_least: float = 0.65  # of their shares, that others may come to use while one waits that always is beyond its
    others_begin: float = 0.85  # the same while its flow begins: others may begin with it,
    begins_s: float = 0.75  # which is known by then
    patience_s: float = 2.0  # a request without a deadline is due so long after it came, at the soonest
    unhurried_share: float = 0.5  # of the engine, the most that a flow's work without a deadline is promised,
    unhurried_least: float = 0.1  # and of its share at least, whatever its tier sends with one
    unhurried_lag_s: float = 1.0  # of its pace that it catches up, if it was kept waiting
    room_share: float = 8.0  # times the room left in the queue that one of several callers may fill
    hopeless: float = 0.75  # of the predicted time: what has less left cannot be in time any more

    # Depth.
    kept_load: float = 0.95  # of its share: a tier keeps the depth that takes no more, whatever others do
    kept_burst: float = 0.5  # of its deadline, that its share may need for what would wait of it at that depth,
    # or the shares of all such tiers together for what would wait of them: else it keeps less, or nothing,
    kept_least: float = 0.8  # of its deepest exit: a tier whose share carries less keeps nothing but its floor
    light_load: float = 0.8  # of the engine: up to this much at full depth, what finds a worker idle is not cut short
    alone_spreads: float = 2.5  # times a prediction's usual error, that it must fit in: of what is let in none is lost
    to_spare: float = 0.5  # of the time left: what takes less at full depth, all together, asks for no decision
    # All must be predicted to be answered by a part of the time left, or depth falls: the rest answers what nobody
    # foresaw. Of a burst that ebbs a queue makes depth; of load that lasts it makes none, and what came in a stall is
    # worked off the later the less the engine has to spare.
    headroom: float = 0.55  # of the time left, where nothing lasts,
    headroom_lasting: float = 0.1  # and where what lasts takes all of the engine; between them in proportion
    headroom_steady: float = 0.75  # and where no more can come than is answered
    kept_headroom: float = 0.45  # the same for tiers that keep their depth, of their shares of that time
    headroom_s: float = 0.45  # the most that is kept free so, where nothing lasts; else over what is to spare
    most_lasting: float = 0.95  # of the engine that is counted so
    horizon_s: float = 1.0  # beyond the longest usual deadline, until which arrivals are foreseen
    most_segments: int = 3  # times a queue is levelled: what is due much later is looked at next time

    # Faults.
    attempts: int = 2  # batches a text may fail in before its request fails
    overdue: float = 3.0  # times its predicted time after which a batch is run elsewhere, too,
    overdue_s: float = 0.1  # but not before this: a moment's stall is no fault
    hangs: float = 20.0  # times its predicted time after which a worker is held to hang and is replaced,
    hangs_s: float = 2.0  # but not before this
