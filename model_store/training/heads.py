"""Heads that a base already has: a model trained further goes on from them."""

from __future__ import annotations

from pathlib import Path

import torch

from strata.model_store.bundle.bundle import HEADS
from strata.model_store.bundle.tensors import TensorFile
from strata.model_store.training.student import Student


@torch.no_grad()
def read_heads(base: Path, student: Student) -> bool:
    """Set the student's heads to those beside the base's weights; False where it has none.

    Raises ValueError where they are of another form than the recipe's, or not of the same exits.
    """
    if student.heads is None or not (base / HEADS).exists():
        return False
    file = TensorFile(base / HEADS)
    wanted = {
        f"heads.{layer}.{part}": tensor
        for at, layer in enumerate(student.exits[:-1])
        for part, tensor in student.heads.tensors(at).items()
    }
    held = {name: tuple(file.shape(name)) for name in file.names()}
    asked = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    if held != asked:
        name = sorted(dict(held.items() ^ asked.items()))[0]
        raise ValueError(
            f"{base / HEADS}: {name} is {held.get(name, 'not there')}, and the recipe asks for "
            f"{asked.get(name, 'none')}; ask for the base's exits and head_queries, or train from a base without heads"
        )
    for name, tensor in wanted.items():
        tensor.copy_(torch.tensor(file.float32(name)))
    return True
