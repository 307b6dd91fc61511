"""Choosing among candidates: the fastest that is faithful; what fails or is hopeless costs a probe and no more."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from strata.app.engine.batch import Batch, BatchResult
from strata.app.engine.choose import Candidate, fastest, measure, sample_tokens
from strata.app.engine.link import BatchFailed, EngineError, WorkerLost
from strata.app.engine.open_choices import OpenChoices
from strata.app.engine.options import FAITHFUL, EngineOptions
from strata.model_store.bundle.bundle import Bundle


@dataclass
class Machine:
    """A worker whose speed and faults are given; its vectors turn away from the truth by ``error``."""

    speed: float  # seconds per token and layer
    error: float = 0.0
    overflows: bool = False
    dies_after: int | None = None  # batches
    interrupted: int = 0  # how many of the first batches take ten times as long, as beside other processes
    ran: list[int] = field(default_factory=list)  # token layers of each batch

    async def run(self, batch: Batch, timeout_s: float) -> BatchResult:
        if self.overflows:
            raise BatchFailed("a vector that is not finite")
        if self.dies_after is not None and len(self.ran) >= self.dies_after:
            raise WorkerLost("it died")
        work = sum(len(row.tokens) * row.layers for row in batch.rows)
        self.ran.append(work)
        vector = np.array([np.cos(self.error), np.sin(self.error)], np.float32)
        return BatchResult(
            [vector] * len(batch.rows),
            [row.layers for row in batch.rows],
            self.speed * work * (10 if len(self.ran) <= self.interrupted else 1),
            0,
        )


def chosen(bundle: Path, machines: dict[tuple[str, str], Machine], least: float = FAITHFUL) -> tuple[Candidate, str]:
    opened = Bundle.open(bundle)
    return fastest(asyncio.run(measure(machines, opened.manifest, sample_tokens(opened))), least)


def test_the_fastest_that_is_faithful_runs(tiny_bundle: Path) -> None:
    machines = {
        ("torch", "float32"): Machine(3e-6),
        ("onnxruntime", "float32"): Machine(2e-6, error=0.001),
        ("torch", "bfloat16"): Machine(1e-6, error=0.1),
    }
    best, reason = chosen(tiny_bundle, machines)
    assert (best.backend, best.dtype) == ("onnxruntime", "float32")
    assert "torch bfloat16" in reason
    assert "cosine 0.995" in reason


def test_a_fast_one_that_other_processes_interrupt_is_tried_again(tiny_bundle: Path) -> None:
    machines = {("torch", "float32"): Machine(2e-6), ("torch", "bfloat16"): Machine(1e-6, interrupted=5)}
    assert chosen(tiny_bundle, machines)[0].dtype == "bfloat16"


def test_the_operator_says_how_faithful(tiny_bundle: Path) -> None:
    machines = {("torch", "float32"): Machine(3e-6), ("torch", "int8"): Machine(1e-6, error=0.07)}
    assert chosen(tiny_bundle, machines)[0].dtype == "float32"
    assert chosen(tiny_bundle, machines, 0.995)[0].dtype == "int8"


@pytest.mark.parametrize(("min_cosine", "offered"), [(FAITHFUL, False), (0.995, True)])
def test_auto_offers_int8_only_where_it_is_allowed(tiny_bundle: Path, min_cosine: float, offered: bool) -> None:
    pairs = OpenChoices(tiny_bundle, EngineOptions(device="cpu", min_cosine=min_cosine)).candidates()
    assert (("onnxruntime", "int8") in pairs) is offered
    assert ("torch", "int8") not in pairs, "the bundle has no scales"
    assert pairs[0][1] == "float32", "the others are compared with it"


@pytest.mark.parametrize("batches", [0, 4, 5, 6])
def test_a_candidate_that_kills_its_process_costs_only_itself(tiny_bundle: Path, batches: int) -> None:
    mortal = Machine(1e-6, dies_after=batches)
    machines = {("torch", "float32"): mortal, ("onnxruntime", "float32"): Machine(2e-6)}
    best, _ = chosen(tiny_bundle, machines)
    assert best.backend == "onnxruntime"
    with pytest.raises(EngineError, match="it died"):
        chosen(tiny_bundle, {("torch", "float32"): Machine(1e-6, dies_after=batches)})


def test_an_emulated_dtype_is_given_up_after_its_probes(tiny_bundle: Path) -> None:
    slow = Machine(9e-6)
    best, reason = chosen(tiny_bundle, {("torch", "float32"): Machine(2e-6), ("torch", "bfloat16"): slow})
    assert best.dtype == "float32"
    assert "bfloat16 not measured" in reason
    assert max(slow.ran) <= 64, "it was given more than one short text at one layer"


def test_one_that_fails_leaves_the_choice_to_the_others(tiny_bundle: Path) -> None:
    best, reason = chosen(
        tiny_bundle, {("torch", "float32"): Machine(0, overflows=True), ("onnxruntime", "float32"): Machine(1e-6)}
    )
    assert best.backend == "onnxruntime"
    assert "torch float32 failed: a vector that is not finite" in reason


def test_where_all_fail_the_engine_says_why(tiny_bundle: Path) -> None:
    with pytest.raises(EngineError, match="torch float32 failed: a vector that is not finite"):
        chosen(tiny_bundle, {("torch", "float32"): Machine(0, overflows=True)})
