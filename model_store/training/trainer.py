"""The run: draw, encode, compare with the teacher, step, and keep a checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.nn.functional import normalize
from tqdm import tqdm

from strata.model_store.encoding.forward import Lanes, MicroBatch, in_order
from strata.model_store.encoding.precision import pick_device, pick_precision
from strata.model_store.encoding.tokens import tokenize
from strata.model_store.training.checkpoint import CHECKPOINT, Position, digest, load_checkpoint, save_checkpoint
from strata.model_store.training.draws import Draws
from strata.model_store.training.heads import read_heads
from strata.model_store.training.objective import TeacherMemory, objective
from strata.model_store.training.optimizer import Optimizer
from strata.model_store.training.recipe import Recipe
from strata.model_store.training.ridge import fit_heads
from strata.model_store.training.schedule import progress, rate
from strata.model_store.training.sources import GroupSource, LineSource
from strata.model_store.training.student import ExitHeads, Student

LOG = "log.jsonl"
_LANE_TOKENS = {"cpu": 768, "cuda": 16384}  # of a micro-batch: enough of them to share a step among lanes
_RIDGE_STEP = 1 << 40  # data position of the texts the heads are fitted on: beyond any run's steps


class Trainer:
    """One training run in ``folder``. The student starts as ``base``, with its heads where it has them; the teacher is
    ``teacher``, or ``base``, frozen.

    ``lanes``: micro-batches that run at once, one CPU core each (1 on a GPU). With one lane a run is the same to the
    bit when repeated or resumed; with more, gradients add up in another order and weights agree to rounding.
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
    ) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.base = Path(base)
        self.folder = folder
        self.checkpoint_minutes = checkpoint_minutes
        self.device = pick_device()
        self.lanes = Lanes(lanes, self.device, pick_precision(recipe.precision, self.device))
        self.draws = Draws(recipe, lines, groups)
        arithmetic = torch.bfloat16 if self.lanes.precision == "bf16" else torch.float32
        self.teacher = load_model(teacher or base, self.device, arithmetic).eval().requires_grad_(False)
        self.student = Student(
            load_model(base, self.device, taught=True),
            recipe.exits,
            recipe.exit_norm,
            recipe.heads,
            recipe.head_queries,
        ).to(self.device)
        self._models = [digest(Path(model)) for model in (base, teacher or base)]
        full = self.student.hidden_size
        if self.teacher.tokenizer.get_vocab() != self.student.model.tokenizer.get_vocab():
            raise ValueError(f"the teacher {teacher} has another vocabulary than {base}; both read the same tokens")
        taught = self.teacher.encode(["size"]).shape[1]
        if taught != full:
            raise ValueError(f"the teacher's vectors have {taught} dims, the student's {full}; they must be as long")
        self.dims = [d for d in recipe.dims if d < full]
        self.optimizer = Optimizer(self.student, recipe, self.lanes)
        self.memory = TeacherMemory.empty(full, recipe.bank, self.device)
        self.position = Position()

    def train(self, progress_bar: bool = True) -> Student:
        """Run to the end of the schedule, from the folder's checkpoint if there is one; returns the student."""
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
        began, saved, before = time.monotonic(), time.monotonic(), self.position.seconds
        bar = tqdm(total=self.recipe.steps, initial=self.position.step, unit="step", disable=not progress_bar)
        with bar, (self.folder / LOG).open("a", encoding="utf-8") as log:
            while (done := self._progress()) < 1.0:
                record = self.step(self.position.step, rate(done, self.recipe.warmup))
                self.position = Position(self.position.step + 1, before + time.monotonic() - began)
                log.write(json.dumps({"step": self.position.step, "done": round(done, 5), **record}) + "\n")
                log.flush()
                bar.update()
                bar.set_postfix(loss=f"{record['loss']:.3f}", done=f"{100 * done:.1f}%")
                if time.monotonic() - saved > 60 * self.checkpoint_minutes:
                    self.save()
                    saved = time.monotonic()
        self.save()
        self.lanes.close()
        return self.student

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

    def step(self, step: int, factor: float) -> dict[str, float]:
        """One optimizer step on the data of ``step``, at ``factor`` of the learning rate; the loss and its parts."""
        started = time.monotonic()
        texts = self.draws.texts(step)
        rows = tokenize(self.student.model.tokenizer, texts, self.recipe.max_tokens)
        batches = self._micro_batches(rows)
        target = self._teacher_vectors(batches)
        depth = self._depth(step)
        with self.student.up_to(depth):
            parts_of = self.lanes.encode(self.student.pooled, batches, grad=True)
            pooled = in_order([part.detach() for part in parts_of], batches).requires_grad_()
            vectors = self.student.vectors(pooled)  # once for all rows: heads are large, and so are their gradients
        if not self.memory.seen:  # the mean must exist before it can be taken out
            self.memory.mean = target.mean(0)
        loss, parts = objective(
            vectors, target, self.memory, self._cut_dim(step), self.recipe, depth == self.student.layers
        )
        torch.autograd.backward(loss)
        self._backward(parts_of, pooled, batches)
        norm = nn.utils.clip_grad_norm_(self.student.parameters(), self.recipe.clip)
        self.optimizer.step(factor)
        self.memory.add(target)
        record = {"loss": loss.item(), **{name: part.item() for name, part in parts.items()}, "norm": norm.item()}
        record |= {"depth": depth, "tokens": sum(len(row) for row in rows), "seconds": time.monotonic() - started}
        return {name: round(value, 5) for name, value in record.items()}

    def _progress(self) -> float:
        return progress(self.position.step, self.recipe.steps, self.position.seconds, self.recipe.minutes)

    def _cut_dim(self, step: int) -> int:
        """The dim trained in a step, drawn by (seed, step) alone."""
        if not self.dims:
            return self.student.hidden_size
        return int(np.random.default_rng((self.recipe.seed, step, 1)).choice(self.dims))

    def _depth(self, step: int) -> int:
        """How deep a step runs, drawn by (seed, step) alone: to the end, or to half where there are exits above it."""
        half = self.student.layers // 2
        drawn = np.random.default_rng((self.recipe.seed, step, 2)).random() < self.recipe.half_depth
        return half if drawn and self.student.exits[0] <= half else self.student.layers

    def _micro_batches(self, rows: Sequence[Sequence[int]]) -> list[MicroBatch]:
        pad_id = int(self.student.model.tokenizer.pad_token_id or 0)
        # Some for each lane: with a few large ones a lane would wait for the last.
        fair = max(map(len, rows)) + sum(map(len, rows)) // (3 * self.lanes.count)
        return self.lanes.micro_batches(rows, pad_id, min(fair, _LANE_TOKENS[self.device.type]))

    def _teacher_vectors(self, batches: Sequence[MicroBatch]) -> Tensor:
        """The teacher's unit vectors [rows, full]."""
        parts = self.lanes.encode(lambda f: self.teacher(dict(f))["sentence_embedding"], batches)
        return normalize(in_order(parts, batches), dim=-1)

    def _backward(self, parts: Sequence[Tensor], pooled: Tensor, batches: Sequence[MicroBatch]) -> None:
        """Carry the objective's gradient on ``pooled`` back through each micro-batch's own graph."""
        if pooled.grad is None:
            raise RuntimeError("the objective has not been differentiated")
        gradient = pooled.grad
        work = [(part, gradient[..., batch.rows, :]) for part, batch in zip(parts, batches, strict=True)]

        def run(pair: tuple[Tensor, Tensor]) -> None:
            torch.autograd.backward(pair[:1], pair[1:])

        self.lanes.map(run, work)

    def _fit_heads(self, heads: ExitHeads) -> None:
        texts: list[str] = []
        for step in range(_RIDGE_STEP, _RIDGE_STEP + self.recipe.ridge_texts):
            texts += self.draws.texts(step)
            if len(texts) >= self.recipe.ridge_texts:
                break
        batches = self._micro_batches(tokenize(self.student.model.tokenizer, texts, self.recipe.max_tokens))
        pooled = in_order(self.lanes.encode(self.student.pooled, batches), batches)
        fit_heads(heads, self.student.heads_read(pooled)[0], self._teacher_vectors(batches))


def load_model(
    path: str, device: torch.device, dtype: torch.dtype = torch.float32, taught: bool = False
) -> SentenceTransformer:
    """A local sentence-transformers (or plain transformers) folder; nothing is fetched, no remote code."""
    kwargs: dict[str, Any] = {"dtype": dtype}
    if taught and device.type == "cpu":  # fused attention's backward pass takes several times its products' time there
        kwargs["attn_implementation"] = "eager"
    return SentenceTransformer(path, device=str(device), local_files_only=True, model_kwargs=kwargs)
