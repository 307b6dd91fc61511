"""Heads that a base already has: a model trained further goes on from them."""

from __future__ import annotations

from pathlib import Path

import torch

from model_store.bundle import HEADS
from model_store.tensors import TensorFile
from model_store.training.student import Student


@torch.no_grad()
def read_heads(base: Path, student: Student) -> bool:
    """Set the student's heads to those beside the base's weights; False where it has not one for every exit."""
    if student.heads is None or not (base / HEADS).exists():
        return False
    file = TensorFile(base / HEADS)
    names = set(file.names())
    if any(f"heads.{layer}.weight" not in names for layer in student.exits[:-1]):
        return False
    for at, layer in enumerate(student.exits[:-1]):
        student.heads.weight[at] = torch.tensor(file.float32(f"heads.{layer}.weight"))
        student.heads.bias[at] = torch.tensor(file.float32(f"heads.{layer}.bias"))
    return True
