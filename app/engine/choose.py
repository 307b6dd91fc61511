"""Which backend and dtype to run: measured on this machine at start-up, never guessed from its name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from strata.app.engine.batch import Batch, BatchResult, Row, TokenIds
from strata.app.engine.link import EngineError
from strata.model_store.bundle.bundle import Bundle, read_tokenizer
from strata.model_store.bundle.manifest import Manifest

_HOPELESS = 3.0  # times the quickest's time on a small probe, beyond which a candidate is not measured further
_ROUNDS = 3  # timed runs of each candidate
_PROBES = 8  # runs of one that seems hopeless: beside other processes a run of a millisecond is often interrupted
_TIMEOUT_S = 60.0  # of one run
_TEXTS = (
    "How do I reset the password of an account that was locked last night?",
    "The committee met on Tuesday and, after a long debate, agreed to postpone the vote until the spring.",
    "sleeping cat",
    "Returns the index of the first element that is not smaller than the value, or the length of the list.",
    "She bought two pounds of apples, a loaf of rye bread and the morning paper.",
    "Rainfall in the northern valleys was twice the average of the last thirty years, which filled the reservoirs, "
    "flooded the lower fields and delayed the planting of barley by almost a month.",
    "What is the boiling point of water at 3,000 metres above the sea?",
    "Error: connection refused (port 5432)",
    "A good translation keeps the rhythm of a sentence as well as its sense.",
    "Ships that leave the harbour at dusk reach the island shortly after midnight, if the wind holds.",
)


Key = tuple[str, str]  # of a candidate: backend, dtype


class Runs(Protocol):
    """What is asked of a candidate's worker."""

    async def run(self, batch: Batch, timeout_s: float) -> BatchResult:
        """Run one batch. Raises EngineError."""


@dataclass(slots=True, frozen=True)
class Candidate:
    """One backend and dtype, as measured: seconds for the sample, worst cosine to the reference over all exits."""

    backend: str
    dtype: str
    seconds: float | None
    worst_cosine: float | None
    note: str = ""

    def faithful(self, least: float) -> bool:
        """Measured, and true to the reference at every exit."""
        return self.seconds is not None and (self.worst_cosine or 0.0) >= least


@dataclass(slots=True, frozen=True)
class EngineChoice:
    """What runs, and why."""

    backend: str
    dtype: str
    device: str
    workers: int
    threads: int
    reason: str
    candidates: tuple[Candidate, ...]


def sample_tokens(bundle: Bundle) -> list[TokenIds]:
    """A few hundred tokens of real sentences of mixed lengths."""
    encoded = read_tokenizer(bundle.path).encode_batch_fast(list(_TEXTS))
    return [np.array(e.ids[: bundle.manifest.max_tokens], np.int32) for e in encoded]


async def measure(workers: Mapping[Key, Runs], manifest: Manifest, sample: Sequence[TokenIds]) -> list[Candidate]:
    """Time every candidate on the same rows at a quarter of the depth; compare it with the first at all exits.

    ``workers``: by (backend, dtype), the most exact first. Raises EngineError when none of them can run.
    """
    quarter = (manifest.architecture.layers + 3) // 4  # every layer costs the same, and start-up should be short
    timed = Batch([Row(ids, quarter, manifest.full_dim) for ids in sample])
    at_exits = Batch([Row(ids, exit_, manifest.full_dim) for ids in sample[1:3] for exit_ in manifest.exits])
    one_text = Batch([Row(sample[0], 1, manifest.full_dim)])
    dropped = await _drop_hopeless(workers, one_text)
    answers = await _run_all({key: worker for key, worker in workers.items() if key not in dropped}, at_exits, dropped)
    seconds = await _least_seconds({key: workers[key] for key in answers}, timed, dropped)
    if not seconds:
        raise EngineError("; ".join(f"{c.backend} {c.dtype} {c.note}" for c in dropped.values()))
    reference = next(answers[key] for key in answers if key in seconds)
    measured = {}
    for key, least in seconds.items():
        worst = min(float(a @ b) for a, b in zip(reference.vectors, answers[key].vectors, strict=True))
        measured[key] = Candidate(*key, least, worst)
    return [measured.get(key) or dropped[key] for key in workers]


async def _drop_hopeless(workers: Mapping[Key, Runs], one_text: Batch) -> dict[Key, Candidate]:
    """Candidates that fail on one short text, or are many times as slow as the quickest before them."""
    dropped: dict[Key, Candidate] = {}
    bound = float("inf")
    for key, worker in workers.items():
        try:
            await worker.run(one_text, _TIMEOUT_S)  # pays for what is set up once
            took = float("inf")
            for tried in range(_PROBES):
                took = min(took, (await worker.run(one_text, _TIMEOUT_S)).seconds)
                if tried + 1 >= _ROUNDS and took <= bound:
                    break
        except EngineError as error:  # it failed, died or hung, as it would later
            dropped[key] = _failed(key, error)
            continue
        if took > bound:
            dropped[key] = Candidate(*key, None, None, f"not measured: {1000 * took:.0f} ms for one short text")
        bound = min(bound, _HOPELESS * took)
    return dropped


async def _run_all(workers: Mapping[Key, Runs], batch: Batch, dropped: dict[Key, Candidate]) -> dict[Key, BatchResult]:
    """What each candidate makes of a batch, all at once; one that fails goes to ``dropped``."""
    found = await asyncio.gather(
        *(worker.run(batch, _TIMEOUT_S) for worker in workers.values()), return_exceptions=True
    )
    answers: dict[Key, BatchResult] = {}
    for key, answer in zip(workers, found, strict=True):
        if isinstance(answer, EngineError):  # as where a narrower dtype overflows
            dropped[key] = _failed(key, answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            answers[key] = answer
    return answers


async def _least_seconds(workers: Mapping[Key, Runs], batch: Batch, dropped: dict[Key, Candidate]) -> dict[Key, float]:
    """The least seconds of several runs of a batch, in turns; a candidate that fails goes to ``dropped``.

    The least, because other processes make a run slower and none makes it quicker.
    """
    seconds: dict[Key, float] = {}
    for key in _ROUNDS * list(workers):
        if key not in dropped:
            try:
                took = (await workers[key].run(batch, _TIMEOUT_S)).seconds
                seconds[key] = min(took, seconds.get(key, took))
            except EngineError as error:
                dropped[key] = _failed(key, error)
                seconds.pop(key, None)
    return seconds


def _failed(key: Key, error: EngineError) -> Candidate:
    return Candidate(*key, None, None, f"failed: {error}")


def fastest(candidates: Sequence[Candidate], least: float) -> tuple[Candidate, str]:
    """The fastest whose worst cosine is at least this, and the reason in words."""
    best = min((c for c in candidates if c.faithful(least)), key=lambda c: c.seconds or 0.0)
    told = ", ".join(
        f"{c.backend} {c.dtype} {1000 * c.seconds:.1f} ms"
        + ("" if c.faithful(least) else f" (cosine {c.worst_cosine:.4f})")
        if c.seconds is not None
        else f"{c.backend} {c.dtype} {c.note}"
        for c in candidates
    )
    return best, f"the fastest with cosine >= {least:g} to fp32 at every exit; measured: {told}"
