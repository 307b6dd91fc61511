"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from strata.model_store.bundle.strict import first_fault
from strata.model_store.training.objective import Memory
from strata.model_store.training.optimizer import Optimizer
from strata.model_store.training.recipe import Recipe

CHECKPOINT = "checkpoint.pt"
_SAY = (".safetensors", ".bin", ".json", ".txt", ".model")


class CheckpointError(ValueError):
    """A checkpoint that cannot continue this run; the message says why."""


def digest(model: Path) -> str:
    """Of the files that say what a model computes."""
    found = hashlib.sha256()
    for file in sorted(file for file in model.rglob("*") if file.suffix in _SAY):
        with file.open("rb") as opened:
            found.update(f"{file.relative_to(model)} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()


@dataclass
class Position:
    """Where a run is: what it has done and the seconds spent, over all its sittings. The data position is the step."""

    step: int = 0
    seconds: float = 0.0
    texts: int = 0
    tokens: int = 0


def save_checkpoint(
    folder: Path,
    recipe: Recipe,
    models: list[str],
    data: list[str],
    position: Position,
    student: nn.Module,
    optimizer: Optimizer,
    memory: Memory,
) -> None:
    """Write ``checkpoint.pt``, whole or not at all.

    ``models``: digests of the base and the teacher; ``data`` describes the sources, a line each.
    """
    state = {
        "recipe": recipe.model_dump_json(),
        "models": models,
        "data": data,
        "position": asdict(position),
        "student": student.state_dict(),
        "optimizer": optimizer.state_dict(),
        "memory": {
            "mean": memory.mean,
            "teacher": memory.teacher,
            "deepest": memory.deepest,
            "seen": memory.seen,
        },
        "rng": _rng_state(),
    }
    draft = folder / f"{CHECKPOINT}.partial"
    torch.save(state, draft)
    draft.replace(folder / CHECKPOINT)


def load_checkpoint(
    folder: Path,
    recipe: Recipe,
    models: list[str],
    data: list[str],
    student: nn.Module,
    optimizer: Optimizer,
    memory: Memory,
) -> Position:
    """Restore a run in place and return where it was.

    On a CPU with one lane the run goes on as if it had never stopped, to the bit; on a GPU, or with more lanes, sums
    are taken in an order of their own, so it goes on from the same weights, optimizer state and data, to rounding.
    Raises CheckpointError where it cannot be read, or the recipe, the models or the data differ. Only ``steps``,
    ``minutes`` and ``precision`` may change: a run can be given more, or less, time.
    """
    try:
        state = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, UnpicklingError) as error:
        raise CheckpointError(f"{folder / CHECKPOINT} cannot be read; remove it to begin anew: {error}") from error
    free = {"steps", "minutes", "precision"}
    try:
        made_by = Recipe.model_validate_json(state["recipe"])
    except ValidationError as error:
        raise CheckpointError(f"{folder / CHECKPOINT} was made by another recipe: {first_fault(error)}") from error
    before, now = (r.model_dump(exclude=free) for r in (made_by, recipe))
    changed = sorted(name for name in now if now[name] != before[name])
    if changed:
        raise CheckpointError(f"{folder / CHECKPOINT} was made by another recipe; it differs in {', '.join(changed)}")
    if state.get("models") != models:
        raise CheckpointError(f"{folder / CHECKPOINT} was made from another base or by another teacher")
    if state["data"] != data:
        raise CheckpointError(f"{folder / CHECKPOINT} was made from other data: {', '.join(state['data'])}")
    student.load_state_dict(state["student"])
    optimizer.load_state_dict(state["optimizer"])
    device = memory.mean.device
    for name, value in state["memory"].items():
        setattr(memory, name, value.to(device) if isinstance(value, Tensor) else value)
    _restore_rng(state["rng"])
    return Position(**state["position"])


def _rng_state() -> dict[str, Any]:
    """Torch's generators; the data's needs none, being drawn from (seed, step)."""
    cuda: list[Tensor] = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _restore_rng(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
