"""Admission: who is let in, so that whoever is can be answered in time, and nobody takes another's share.

Each flow (a caller in its tier) is promised what a server of its own would give it, as fast as its share of the engine:
the guaranteed rate of fair queueing (Parekh and Gallager 1993; Goyal and Vin, "Generalized guaranteed rate scheduling
algorithms", 1997). A newcomer that such a server would answer in time is within its share and is let in whatever the
others do. One beyond it is let in where there is time left by all that waits and by what the others are likely to send
within their shares: capacity that nobody wants is free, and nothing is remembered against those who use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt

import numpy as np

from strata.app.scheduling.curves import LEVELS, Curves
from strata.app.scheduling.foreseen import coming
from strata.app.scheduling.queue import Columns
from strata.app.scheduling.snapshot import Floats, Snapshot


@dataclass(slots=True)
class Newcomer:
    """A request that asks to be let in. Work in worker-seconds at its floor."""

    tier: str
    work: float
    slack_s: float  # until its deadline
    due_s: float  # until its place in the queue
    share: float  # of the engine, its flow's own
    ahead_s: float  # until a server of its flow's own would begin with it,
    spare_s: float  # and that it may take there, or what is due later of its flow would be late
    own_rates: tuple[float, float]  # texts a second of its flow, of late and on the whole
    age_s: float = inf  # since its flow began, or rose
    margin: float = 0.0  # share of its time that it must have left if it is within its share


@dataclass(slots=True)
class Verdict:
    """Whether a newcomer is let in."""

    late_s: float  # by how much it would be late, or make another late; 0: it is let in
    within: bool  # its share
    own_s: float = 0.0  # that it takes a server of its flow's own,
    beyond_s: float = 0.0  # and by how much that is too long for it to be within its share


def judge(newcomer: Newcomer, columns: Columns | None, snapshot: Snapshot, curves: Curves) -> Verdict:
    """Let in or refuse, all that waits taken to run at the fewest layers it may; None: there is time for all of it."""
    capacity, policy = snapshot.capacity, snapshot.policy
    doubt = 1 + capacity.costs.spread / 2  # of many batches some take longer and some less
    rate = max(newcomer.share, 1e-3) * capacity.workers
    own_s = newcomer.work / rate
    done_s = capacity.lag_s + newcomer.ahead_s + own_s  # all wait for this process at once, not one after the other
    beyond_s = doubt * done_s - (policy.within_share - newcomer.margin) * newcomer.slack_s
    beyond_s = max(beyond_s, own_s - newcomer.spare_s)
    within = beyond_s <= 0
    if columns is None:
        return Verdict(0.0, within, own_s)
    work = _work(columns, snapshot, curves, beyond=not within, until=snapshot.now + newcomer.due_s)
    if within:
        work = np.where(columns.within, work, 0.0)
    at = int(np.searchsorted(columns.dues - snapshot.now, newcomer.due_s, side="right"))
    before = float(work[:at].sum())
    likely, least = (0.0, 0.0) if within else _of_others(newcomer, snapshot)
    bound = policy.within_share - newcomer.margin if within else policy.beyond_share - snapshot.margin
    own = doubt * capacity.finish_one(before + likely, newcomer.work) - bound * newcomer.slack_s
    if not within:
        risen = doubt * capacity.finish_one(before + least, newcomer.work) - policy.beyond_share * newcomer.slack_s
        own = max(own, risen)
    if at == len(columns):
        return Verdict(max(0.0, own), within, own_s, beyond_s)
    left = (columns.deadlines - snapshot.now)[at:]
    finish = doubt * capacity.finish(work)[at:]
    after = finish + doubt * newcomer.work / capacity.workers
    if within:
        most = left
    else:
        part = np.where(columns.kept[at:] > 0, policy.kept_left, policy.within_left)
        most = np.where(columns.within[at:], part * left, left)
    spoilt = (finish <= left) & (after > most)
    if within:
        spoilt &= columns.within[at:]
    worst = float((after - most)[spoilt].max()) if spoilt.any() else 0.0
    return Verdict(max(0.0, own, worst), within, own_s, beyond_s)


def _work(columns: Columns, snapshot: Snapshot, curves: Curves, *, beyond: bool, until: float = -inf) -> Floats:
    """Worker-seconds of what waits at its floors; for one beyond its share, of those who keep their depth at that,
    and of all of it that is due ``until`` then.
    """
    layers = columns.floors
    if beyond and snapshot.kept:
        layers = np.maximum(layers, np.minimum(columns.kept, curves.rows[columns.curves, LEVELS - 1]))
    tokens, texts = columns.tokens, columns.texts
    if beyond and until > -inf and columns.later.any():
        more = 1 + columns.due_by(until) / texts
        tokens, texts = more * tokens, more * texts
    return snapshot.capacity.costs.rows(tokens, texts, layers, snapshot.capacity.bounds)


def _of_others(newcomer: Newcomer, snapshot: Snapshot) -> tuple[float, float]:
    """Worker-seconds that others send, within their shares, due before a newcomer beyond its own.

    (As is likely now; and if they come to use a part of their shares at least, as they may while it waits.) A burst is
    let in by what is likely: a long queue answers it. Who is beyond its share in the long run gains nothing by one.
    """
    likely = least = 0.0
    policy = snapshot.policy
    part = policy.others_least if newcomer.age_s > policy.begins_s else policy.others_begin
    part *= min(1.0, max(0.0, _load(newcomer.tier, snapshot) - 1.0))
    for kind in snapshot.expected:
        # Those that come later with the same deadline go first, if they are within their share.
        span = newcomer.due_s - kind.deadline_s / 4
        if span <= 0:
            continue
        texts = coming(kind.risen, 0.0, span)
        if kind.tier == newcomer.tier:
            texts = max(0.0, texts - kind.part * coming(newcomer.own_rates, 0.0, span))
        texts += policy.beyond_sigmas * sqrt(texts)
        each = kind.work(max(kind.floor, snapshot.kept.get(kind.tier, 0.0)))
        own = kind.part * kind.share * snapshot.capacity.workers * span
        work = min(texts * each, own)
        likely += work
        least += work if kind.tier == newcomer.tier else max(work, part * own)
    return likely, least


def _load(tier: str, snapshot: Snapshot) -> float:
    """What a tier sends on the whole, at its floors, as a multiple of its share."""
    kinds = [kind for kind in snapshot.expected if kind.tier == tier]
    work = sum(kind.risen[1] * kind.floor_work for kind in kinds)
    return work / (kinds[0].share * snapshot.capacity.workers) if kinds else 0.0


def late_within(columns: Columns, snapshot: Snapshot, curves: Curves) -> bool:
    """Whether someone within its share would be late with all at their floors, or those who keep their depth at that:
    not everybody can be served.
    """
    finish = snapshot.capacity.finish(_work(columns, snapshot, curves, beyond=True))
    late = finish > columns.deadlines - snapshot.now
    return bool((late & columns.within).any())
