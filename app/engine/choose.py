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
_ROUNDS = 3
_PROBES = 8  # of one that seems so slow: beside other processes a run of a millisecond is often interrupted
_TIMEOUT_S = 60.0
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


async def measure(
    workers: Mapping[tuple[str, str], Runs], manifest: Manifest, sample: Sequence[TokenIds]
) -> list[Candidate]:
    """Time every candidate on the same rows at a quarter of the depth; compare it with the first at all exits.

    Raises EngineError when none of them can run.
    """
    quarter = (manifest.architecture.layers + 3) // 4  # every layer costs the same, and start-up should be short
    timed = Batch([Row(ids, quarter, manifest.full_dim) for ids in sample])
    at_exits = Batch([Row(ids, exit_, manifest.full_dim) for ids in sample[1:3] for exit_ in manifest.exits])
    probe = Batch([Row(sample[0], 1, manifest.full_dim)])
    found: dict[tuple[str, str], Candidate] = {}
    bound = float("inf")
    for key, worker in workers.items():
        try:
            await worker.run(probe, _TIMEOUT_S)  # pays for what is set up once
            took = float("inf")
            for tried in range(_PROBES):
                took = min(took, (await worker.run(probe, _TIMEOUT_S)).seconds)
                if tried + 1 >= _ROUNDS and took <= bound:
                    break
        except EngineError as error:  # it failed, died or hung: what it would have done later
            found[key] = _failed(key, error)
            continue
        if took > bound:
            found[key] = Candidate(*key, None, None, f"not measured: {1000 * took:.0f} ms for one short text")
        bound = min(bound, _HOPELESS * took)
    left = [key for key in workers if key not in found]
    told = await asyncio.gather(*(workers[key].run(at_exits, _TIMEOUT_S) for key in left), return_exceptions=True)
    answers: dict[tuple[str, str], BatchResult] = {}
    for key, answer in zip(left, told, strict=True):
        if isinstance(answer, EngineError):  # as where a narrower dtype overflows
            found[key] = _failed(key, answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            answers[key] = answer
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in answers}
    for key in _ROUNDS * list(answers):
        if key in answers:
            try:
                seconds[key].append((await workers[key].run(timed, _TIMEOUT_S)).seconds)
            except EngineError as error:
                found[key] = _failed(key, error)
                del answers[key]
    if not answers:
        raise EngineError("; ".join(f"{c.backend} {c.dtype} {c.note}" for c in found.values()))
    reference = next(iter(answers.values()))
    for key, answer in answers.items():
        worst = min(float(a @ b) for a, b in zip(reference.vectors, answer.vectors, strict=True))
        found[key] = Candidate(*key, min(seconds[key]), worst)  # others interrupt it, nobody speeds it up
    return [found[key] for key in workers]


def _failed(key: tuple[str, str], error: EngineError) -> Candidate:
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
