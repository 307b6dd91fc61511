"""What a measurement asks for vectors: a model's reference encoder, or the source model as its own library runs it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from strata.model_store.bundle.manifest import MANIFEST_NAME
from strata.model_store.bundle.prompts import InputType, prompt_for, prompt_text
from strata.model_store.encoding.forward import Lanes
from strata.model_store.encoding.precision import arithmetic
from strata.model_store.encoding.reference import ReferenceEncoder, Vectors
from strata.model_store.importing.architecture import most_tokens
from strata.model_store.importing.sentence_config import read_prompts
from strata.model_store.importing.source import Source
from strata.model_store.importing.unsafe import safe_folder

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

Told = Callable[[int], object]  # called with the characters of texts that are done
_PIECE = {"cpu": 32, "cuda": 1024}  # texts between two of the bar's steps
_BATCH = {"cpu": 8, "cuda": 128}


class Encoder(Protocol):
    """Vectors by exit, with the model's own prompts."""

    @property
    def layers(self) -> int:
        """The last exit."""

    def encode(
        self, texts: Sequence[str], exits: Sequence[int], input_type: InputType | None = None
    ) -> Mapping[int, Vectors]:
        """Vectors [texts, full dim] by exit, neither cut nor normalised."""


class Remembered:
    """An encoder that is asked for the same texts again: each is embedded once, and all are held."""

    def __init__(self, encoder: Encoder) -> None:
        self.layers = encoder.layers
        self._encoder = encoder
        self._kept: dict[tuple[int, tuple[int, ...], InputType | None], Mapping[int, Vectors]] = {}

    def encode(
        self, texts: Sequence[str], exits: Sequence[int], input_type: InputType | None = None
    ) -> Mapping[int, Vectors]:
        """See `Encoder`."""
        place = (hash(tuple(texts)), tuple(exits), input_type)
        if place not in self._kept:
            self._kept[place] = self._encoder.encode(texts, exits, input_type)
        return self._kept[place]


class ModelEncoder:
    """A model folder by its reference encoder: every exit from one pass."""

    def __init__(
        self, folder: Path, device: torch.device, precision: str = "fp32", told: Told = lambda done: None
    ) -> None:
        self.reference = ReferenceEncoder(folder, device)
        self.layers = self.reference.layers
        self.dim = self.reference.dim
        self._precision = precision
        self._told = told

    def encode(
        self, texts: Sequence[str], exits: Sequence[int], input_type: InputType | None = None
    ) -> Mapping[int, Vectors]:
        """See `Encoder`."""
        prompts = self.reference.prompts
        named = prompt_for(prompts, input_type)
        prompt = self.reference.prompt if named is None else prompts[named]
        return self.reference.encode([prompt + text for text in texts], exits, None, self._precision, self._told)


class SourceEncoder:
    """An ordinary model folder by sentence-transformers: its case, modules and length; full depth alone.

    Prompts are those of the folder's own file, chosen as a server chooses them, and texts are never longer than the
    model has positions. Raises ValueError where that file cannot be read.
    """

    def __init__(
        self, folder: Path, device: torch.device, precision: str = "fp32", told: Told = lambda done: None
    ) -> None:
        from sentence_transformers import SentenceTransformer

        folder = safe_folder(folder)
        self._prompts, self._default_prompt = read_prompts(Source(folder))
        # A model a lane: a tokenizer is not to be used by two threads.
        self._lanes = Lanes(len(os.sched_getaffinity(0)) if device.type == "cpu" else 1, device, precision)
        self._models: SimpleQueue[SentenceTransformer] = SimpleQueue()
        for _ in range(self._lanes.count):
            model = SentenceTransformer(str(folder), device=str(device), local_files_only=True)
            _keep_to_positions(model)
            self._models.put(model.float())
        self.layers = 1
        self.dim = int(model.get_embedding_dimension() or 0)
        self._device = device
        self._precision = precision
        self._told = told

    def encode(
        self, texts: Sequence[str], exits: Sequence[int], input_type: InputType | None = None
    ) -> Mapping[int, Vectors]:
        """See `Encoder`; the one exit there is stands for full depth."""
        options: dict[str, Any] = {"batch_size": _BATCH[self._device.type], "show_progress_bar": False}
        options["prompt"] = prompt_text(self._prompts, self._default_prompt, input_type)
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        found: Vectors = np.empty((len(texts), self.dim), np.float32)

        def run(piece: list[int]) -> None:
            model = self._models.get()
            try:
                with arithmetic(self._precision, self._device):
                    found[piece] = model.encode([texts[i] for i in piece], **options)
            finally:
                self._models.put(model)
            self._told(sum(len(texts[i]) for i in piece))

        size = _PIECE[self._device.type]
        self._lanes.map(run, [order[start : start + size] for start in range(0, len(order), size)])
        return dict.fromkeys(exits, found)

    def close(self) -> None:
        """End the threads."""
        self._lanes.close()


def _keep_to_positions(model: SentenceTransformer) -> None:
    """Cut texts where a model's positions end, as an import does: beyond them its own library fails."""
    transformer: Any = getattr(model[0], "auto_model", None)
    bound = most_tokens(transformer.config.to_dict()) if transformer is not None else None
    if bound is not None and (model.max_seq_length is None or model.max_seq_length > bound):
        model.max_seq_length = bound


def source_encoder(folder: Path, device: torch.device, precision: str, told: Told) -> SourceEncoder | ModelEncoder:
    """The encoder of a source model, which may be a bundle itself."""
    kind = ModelEncoder if (folder / MANIFEST_NAME).exists() else SourceEncoder
    return kind(folder, device, precision, told)
