"""Heads: an existing heads.safetensors, or a Dense module after pooling, which is a head at the last layer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from strata.model_store.bundle.bundle import HEADS
from strata.model_store.bundle.families import TensorSpec, head_parts
from strata.model_store.bundle.manifest import Architecture
from strata.model_store.bundle.tensors import TensorFile
from strata.model_store.importing.refusal import RefusedError
from strata.model_store.importing.safetensors_writer import StoredTensor, write_safetensors
from strata.model_store.importing.source import Source
from strata.model_store.importing.weights import open_tensors, read_checked

_NUMPY_NAMES = {"F16": np.float16, "F32": np.float32, "BF16": np.uint16}


class Heads(NamedTuple):
    """What the heads of a folder are."""

    exits: tuple[int, ...] = ()
    size: int | None = None  # length of their output
    queries: int = 0  # attention queries of each


def write_heads(source: Source, folder: Path, architecture: Architecture) -> Heads:
    """Copy the heads of ``source``, which are all of one form, into ``folder``; see ``families.head_parts``."""
    path = source.file(HEADS)
    if path is None:
        return Heads()
    file = open_tensors(path)
    names = file.names()
    exits = sorted({int(match[1]) for name in names if (match := re.fullmatch(r"heads\.(\d{1,4})\.weight", name))})
    size, queries = (_rows(file, f"heads.{exits[0]}.{part}") for part in ("weight", "queries")) if exits else (0, 0)
    specs = [s for e in exits for s in head_parts(e, architecture.hidden_size, size, queries).values()]
    if not exits or {spec.name for spec in specs} != set(names):
        raise RefusedError(
            f"{path}: must hold heads.N.weight and heads.N.bias (and all or no heads.N.queries) for each exit N, "
            "and nothing else"
        )
    write_safetensors(folder / HEADS, [read_checked(file, spec.name, spec) for spec in specs])
    return Heads(tuple(exits), size, queries)


def _rows(file: TensorFile, name: str) -> int:
    shape = file.shape(name) if name in file.names() else ()
    return shape[0] if shape else 0


def write_dense(dense: Source, folder: Path, architecture: Architecture) -> Heads:
    """Turn a Dense module into the head of the last layer."""
    config = dense.object("config.json")
    name = dense.path.name
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rsplit(".", 1)[-1]
    if activation != "Identity":
        raise RefusedError(f"{name}/config.json: activation {activation} is not supported; a head is affine (Identity)")
    if config.get("use_residual"):
        raise RefusedError(f"{name}/config.json: use_residual is not supported; a head is affine")
    for key in ("module_input_name", "module_output_name"):
        if config.get(key, "sentence_embedding") not in ("sentence_embedding", None):
            raise RefusedError(
                f"{name}/config.json: {key} {config[key]!r}; only a Dense after the pooling can be served"
            )
    path = dense.file("model.safetensors")
    if path is None:
        raise RefusedError(f"{name}: holds no model.safetensors; pickled weights are not opened")
    layers, size = architecture.layers, config.get("out_features")
    if not isinstance(size, int) or size < 1:
        raise RefusedError(f"{name}/config.json: out_features {size!r} is not a size")
    weight_spec = TensorSpec("linear.weight", (size, architecture.hidden_size))
    try:
        file = open_tensors(path)
        weight = read_checked(file, "linear.weight", weight_spec)._replace(name=f"heads.{layers}.weight")
        if "linear.bias" in file.names():
            bias = read_checked(file, "linear.bias", TensorSpec("linear.bias", (size,)))
        else:
            bias = StoredTensor("", np.zeros(size, _NUMPY_NAMES[weight.dtype]), weight.dtype)
    except RefusedError as error:  # names the file alone, which the encoder's is called, too
        raise RefusedError(f"{name}/{error}") from error
    write_safetensors(folder / HEADS, [weight, bias._replace(name=f"heads.{layers}.bias")])
    return Heads((layers,), size)
