"""The run: draw, encode, compare with the teacher, step, and keep a checkpoint."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize
from tqdm import tqdm

from strata.model_store.encoding.forward import Lanes
from strata.model_store.encoding.precision import pick_device, pick_precision
from strata.model_store.importing.architecture import most_tokens
from strata.model_store.importing.unsafe import safe_folder
from strata.model_store.training.checkpoint import CHECKPOINT, Position, digest, load_checkpoint, save_checkpoint
from strata.model_store.training.draws import Draws
from strata.model_store.training.heads import read_heads
from strata.model_store.training.learning_rate import progress, rate
from strata.model_store.training.objective import Memory, objective
from strata.model_store.training.optimizer import Optimizer
from strata.model_store.training.packing import Packed
from strata.model_store.training.recipe import Recipe
from strata.model_store.training.ridge import fit_heads
from strata.model_store.training.sources import GroupSource, LineSource
from strata.model_store.training.steps import Layout, Steps
from strata.model_store.training.student import ExitHeads, Student

LOG = "log.jsonl"
_LOG_EVERY = 10  # steps: reading a loss makes a GPU's queue run dry
_LANE_TOKENS = {"cpu": 2048, "cuda": 16384}  # of a micro-batch, at most, or a little more
_RIDGE_STEP = 1 << 40  # data position of the texts the heads are fitted on: beyond any run's steps


class Trainer:
    """One training run in ``folder``. The student starts as ``base``, with its heads where it has them; the teacher is
    ``teacher``, or ``base``, frozen.

    ``lanes``: micro-batches that run at once, one CPU core each (1 on a GPU); ``workers``: processes that make steps
    ahead. On a CPU with one lane a run is the same to the bit when repeated or resumed; with more, and on a GPU,
    gradients add up in another order and weights agree to rounding.
    """

    def __init__(
        self,
        recipe: Recipe,
        base: str,
        folder: Path,
        lines: Sequence[LineSource],
        groups: Sequence[GroupSource],
        teacher: str | None = None,
        checkpoint_minutes: float = 5.0,
        lanes: int = 1,
        workers: int = 0,
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.base = Path(base)
        self.folder = folder
        self.checkpoint_minutes = checkpoint_minutes
        self.workers = workers
        self.device = pick_device()
        if self.device.type == "cuda":
            torch.set_float32_matmul_precision("high")  # TF32: heads and similarities
        self.lanes = Lanes(lanes, self.device, pick_precision(recipe.precision, self.device))
        self.draws = Draws(recipe, lines, groups)
        arithmetic = torch.bfloat16 if self.lanes.precision == "bf16" else torch.float32
        teaching = load_model(teacher or base, self.device).eval().requires_grad_(False)
        self.teacher = Student(teaching, heads=False, arithmetic=arithmetic, exits=_last_layer(teaching))
        self.student = Student(
            load_model(base, self.device),
            recipe.exits,
            recipe.exit_norm,
            recipe.heads,
            recipe.head_queries,
            arithmetic,
        ).to(self.device)
        self._models = [digest(Path(model)) for model in (base, teacher or base)]
        full = self.student.hidden_size
        if self.teacher.model.tokenizer.get_vocab() != self.student.model.tokenizer.get_vocab():
            raise ValueError(f"the teacher {teacher} has another vocabulary than {base}; both read the same tokens")
        if self.teacher.hidden_size != full:
            raise ValueError(
                f"the teacher's vectors have {self.teacher.hidden_size} dims, the student's {full}; both must match"
            )
        backbone: Any = teaching[0].auto_model
        room = most_tokens(backbone.config.to_dict())
        if room is not None and recipe.max_tokens > room:
            raise ValueError(f"--max-tokens {recipe.max_tokens}: the teacher {teacher or base} has {room} positions")
        self.dims = (*(d for d in recipe.dims if d < full), full)
        self.optimizer = Optimizer(self.student, recipe, self.lanes)
        self.memory = Memory.empty(full, recipe.bank, self.device)
        self.position = Position()
        side_by_side = self.student.encoder.side_by_side
        layout = Layout(
            self.device.type == "cuda" and side_by_side, side_by_side, lanes, _LANE_TOKENS[self.device.type]
        )
        self.steps = Steps(self.draws, self.student.model.tokenizer, layout)

    def train(self, progress_bar: bool = True) -> Student:
        """Run to the end of the schedule, from the folder's checkpoint if there is one; returns the student.

        An interrupt or SIGTERM ends it after the step it is in, with a checkpoint, as KeyboardInterrupt.
        """
        self.begin()
        began, saved, before = time.monotonic(), time.monotonic(), self.position.seconds
        total = None if self.recipe.steps is None and self.recipe.minutes else self.recipe.most_steps
        bar = tqdm(total=total, initial=self.position.step, unit="step", disable=not progress_bar)
        made = self.steps.ahead(range(self.position.step, self.recipe.most_steps), self.workers)
        with bar, _Log(self.folder / LOG, self.position.step) as log, _interruptible() as interrupted:
            while (done := self._progress()) < 1.0 and not interrupted.is_set():
                record = self.step(next(made), rate(done, self.recipe.warmup))
                self.position.step += 1
                self.position.seconds = before + time.monotonic() - began
                log.add({"step": self.position.step, "done": round(done, 5), **record})
                bar.update()
                if log.last:
                    bar.set_postfix(loss=f"{log.last['loss']:.3f}", done=f"{100 * done:.1f}%")
                if time.monotonic() - saved > 60 * self.checkpoint_minutes:
                    log.write()  # or a run killed after it would have told of fewer steps than it kept
                    self.save()
                    saved = time.monotonic()
        self.save()
        self.lanes.close()
        if interrupted.is_set():
            raise KeyboardInterrupt
        return self.student

    def begin(self) -> None:
        """Take up the folder's checkpoint, or fit the heads of a run that has none."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / CHECKPOINT).exists():
            self.position = load_checkpoint(
                self.folder,
                self.recipe,
                self._models,
                self.draws.described,
                self.student,
                self.optimizer,
                self.memory,
            )
        elif self.student.heads is not None and not read_heads(self.base, self.student) and self.recipe.ridge_texts:
            self._fit_heads(self.student.heads)
        self.student.encoder.refresh()

    def save(self) -> None:
        """Write the checkpoint of where the run is."""
        save_checkpoint(
            self.folder,
            self.recipe,
            self._models,
            self.draws.described,
            self.position,
            self.student,
            self.optimizer,
            self.memory,
        )

    def step(self, batches: Sequence[Packed], factor: float) -> dict[str, Tensor | float]:
        """One optimizer step on the batches of a step, at ``factor`` of the learning rate; the loss and its parts."""
        started = time.monotonic()
        batches = [batch.to(self.device) for batch in batches]
        target = self._teacher_vectors(batches)
        parts_of = self._encode(self.student, batches, grad=True)
        with self.lanes.together():
            pooled = torch.cat([part.detach() for part in parts_of]).requires_grad_()
            vectors = self.student.vectors(pooled)  # once for all rows: heads are large, and so are their gradients
            if not self.memory.seen:  # the mean must exist before it can be taken out
                self.memory.mean = target.mean(0)
            loss, parts = objective(vectors, target, self.memory, self.dims, self.recipe)
            torch.autograd.backward(loss)
        self._backward(parts_of, pooled)
        with self.lanes.together():
            self.student.encoder.collect_gradients()
            norm = nn.utils.clip_grad_norm_(self.student.parameters(), self.recipe.clip)
        self.optimizer.step(factor)
        with self.lanes.together():
            self.student.encoder.refresh()
            self.memory.add(target, vectors[-1])
        tokens = sum(batch.tokens for batch in batches)
        self.position.tokens += tokens
        self.position.texts += len(target)
        return {
            "loss": loss.detach(),
            **parts,
            "norm": norm,
            "texts": len(target),
            "tokens": tokens,
            "seconds": time.monotonic() - started,
        }

    def _progress(self) -> float:
        return progress(self.position.step, self.recipe.most_steps, self.position.seconds, self.recipe.minutes)

    def _encode(self, student: Student, batches: Sequence[Packed], grad: bool = False) -> list[Tensor]:
        """What ``student.pooled`` gives of each batch; on a lane's own thread, so the mode is set there."""

        def run(batch: Packed) -> Tensor:
            with torch.set_grad_enabled(grad):
                return student.pooled(batch)

        return self.lanes.map(run, batches)

    def _teacher_vectors(self, batches: Sequence[Packed]) -> Tensor:
        """The teacher's unit vectors [rows, full]."""
        return normalize(torch.cat(self._encode(self.teacher, batches)), dim=-1)

    def _backward(self, parts: Sequence[Tensor], pooled: Tensor) -> None:
        """Carry the objective's gradient on ``pooled`` back through each batch's own graph."""
        if pooled.grad is None:
            raise RuntimeError("the objective has not been differentiated")
        gradients = torch.split(pooled.grad, [len(part) for part in parts])

        def run(pair: tuple[Tensor, Tensor]) -> None:
            torch.autograd.backward(pair[:1], pair[1:])

        self.lanes.map(run, zip(parts, gradients, strict=True))

    def _fit_heads(self, heads: ExitHeads) -> None:
        read, target, fitted = [], [], 0
        for step in itertools.count(_RIDGE_STEP):
            batches = [batch.to(self.device) for batch in self.steps.packed(step)]
            read.append(self.student.heads_read(torch.cat(self._encode(self.student, batches))))
            target.append(self._teacher_vectors(batches))
            fitted += len(target[-1])
            if fitted >= self.recipe.ridge_texts:
                break
        fit_heads(heads, torch.cat(read, dim=1), torch.cat(target))


class _Log:
    """Records of steps, as lines of JSON; kept back a few steps, since to read a loss is to wait for a GPU."""

    def __init__(self, path: Path, step: int) -> None:
        """Go on after ``step``: what a killed run told of later steps is told again, and may end within a line."""
        self._path = path
        if path.exists():
            told = path.read_text(encoding="utf-8").splitlines(keepends=True)
            whole = (line for line in told if line.endswith("\n"))
            path.write_text("".join(line for line in whole if json.loads(line)["step"] <= step), encoding="utf-8")
        self._held: list[dict[str, Any]] = []
        self.last: dict[str, Any] = {}

    def __enter__(self) -> _Log:
        self._file: TextIO = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        self.write()
        self._file.close()
        if not self._path.stat().st_size:  # a run that ended before its first step has nothing to tell
            self._path.unlink()

    def add(self, record: dict[str, Any]) -> None:
        """Take a step's record. Raises ValueError where a loss is not a number."""
        self._held.append(record)
        if len(self._held) >= _LOG_EVERY:
            self.write()
            if not self.last["loss"] < float("inf"):
                raise ValueError(f"the loss of step {self.last['step']} is {self.last['loss']}: try a lower rate")

    def write(self) -> None:
        """Write what was kept back."""
        for record in self._held:
            self.last = {n: round(v.item() if isinstance(v, Tensor) else v, 5) for n, v in record.items()}
            self._file.write(json.dumps(self.last) + "\n")
        self._file.flush()
        self._held = []


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Meanwhile the first interrupt, or the SIGTERM of a batch system or a container, sets the event and no more; the
    second is as any."""
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # where Python hears of no signals
        yield interrupted
        return
    usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in usual.items():
            signal.signal(number, handler)

    def note(*_: object) -> None:
        interrupted.set()
        restore()

    for number in usual:
        signal.signal(number, note)
    try:
        yield interrupted
    finally:
        restore()


def _last_layer(model: SentenceTransformer) -> tuple[int]:
    backbone: Any = model[0].auto_model
    return (int(backbone.config.num_hidden_layers),)


def load_model(path: str, device: torch.device) -> SentenceTransformer:
    """A local sentence-transformers (or plain transformers) folder in float32; nothing is fetched, no remote code."""
    folder = safe_folder(Path(path))
    kwargs: dict[str, Any] = {"dtype": torch.float32}
    return SentenceTransformer(str(folder), device=str(device), local_files_only=True, model_kwargs=kwargs)


def usual_workers(device: torch.device) -> int:
    """Processes that make steps ahead: none on a CPU, whose cores are all wanted."""
    return 0 if device.type == "cpu" else max(1, min(12, len(os.sched_getaffinity(0)) - 2))


def device_name(device: torch.device) -> str:
    """What a card calls it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{len(os.sched_getaffinity(0))} CPU cores"
