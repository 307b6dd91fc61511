"""The trained student as a sentence-transformers folder with the heads beside it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from strata.model_store.bundle.bundle import HEADS
from strata.model_store.importing.sentence_config import read_prompts
from strata.model_store.importing.source import Source
from strata.model_store.training.student import Student


def write_student(student: Student, folder: Path, base: Path) -> None:
    """Write the folder, all weights in float16; the student's encoder is float16 on the CPU afterwards.

    Prompts are those of the folder ``base``: the loaded model's have empty ones added, which would hide others.

    ``heads.safetensors`` holds each head's parts as ``heads.{exit}.{part}``, see ``families.head_tensors``.
    """
    model = student.model.half().cpu()
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    if backend is not None:  # a length or padding left behind by whoever used it last is not the model's
        backend.no_truncation()
        backend.no_padding()
    prompts, model.default_prompt_name = read_prompts(Source(base))
    model.prompts = {**prompts}
    model.save_pretrained(str(folder), create_model_card=False)
    if student.heads is not None:
        tensors = {
            f"heads.{layer}.{part}": tensor.detach().to("cpu", torch.float16).clone()
            for at, layer in enumerate(student.exits[:-1])
            for part, tensor in student.heads.tensors(at).items()
        }
        save_file(tensors, folder / HEADS)
