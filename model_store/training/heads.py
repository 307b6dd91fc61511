"""Heads that a base already has: a model trained further goes on from them."""

from __future__ import annotations

from pathlib import Path

import torch

from strata.model_store.bundle.bundle import HEADS
from strata.model_store.bundle.tensors import TensorFile
from strata.model_store.training.student import Student


@torch.no_grad()
def read_heads(base: Path, student: Student) -> bool:
    """Set the student's heads to those beside the base's weights; False where it has not one of their form for
    every exit."""
    if student.heads is None or not (base / HEADS).exists():
        return False
    file = TensorFile(base / HEADS)
    wanted = {
        f"heads.{layer}.{part}": tensor
        for at, layer in enumerate(student.exits[:-1])
        for part, tensor in student.heads.tensors(at).items()
    }
    names = set(file.names())
    if any(name not in names or file.shape(name) != tuple(tensor.shape) for name, tensor in wanted.items()):
        return False
    for name, tensor in wanted.items():
        tensor.copy_(torch.tensor(file.float32(name)))
    return True
