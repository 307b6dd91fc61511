"""Affine heads: an existing heads.safetensors, or a Dense module after pooling, which is a head at the last layer."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from model_store.bundle import HEADS
from model_store.families import TensorSpec
from model_store.importing.refusal import RefusedError
from model_store.importing.safetensors_writer import StoredTensor, write_safetensors
from model_store.importing.source import Source
from model_store.importing.weights import open_tensors, read_checked
from model_store.manifest import Architecture

_NUMPY_NAMES = {"F16": np.float16, "F32": np.float32, "BF16": np.uint16}


def write_heads(source: Source, folder: Path, architecture: Architecture) -> tuple[tuple[int, ...], int | None]:
    """Copy the heads of ``source`` into ``folder``. Returns their exits and the length of their output.

    Tensors are ``heads.{exit}.weight`` [out, hidden] and ``heads.{exit}.bias`` [out]; all heads have one length.
    """
    path = source.file(HEADS)
    if path is None:
        return (), None
    file = open_tensors(path)
    names = file.names()
    exits = sorted({int(match[1]) for name in names if (match := re.fullmatch(r"heads\.(\d{1,4})\.weight", name))})
    if not exits or {f"heads.{e}.{part}" for e in exits for part in ("weight", "bias")} != set(names):
        raise RefusedError(f"{path}: must hold heads.N.weight and heads.N.bias for each exit N, and nothing else")
    shape = file.shape(f"heads.{exits[0]}.weight")
    size = shape[0] if shape else 0
    tensors = []
    for layers in exits:
        weight, bias = f"heads.{layers}.weight", f"heads.{layers}.bias"
        tensors.append(read_checked(file, weight, TensorSpec(weight, (size, architecture.hidden_size))))
        tensors.append(read_checked(file, bias, TensorSpec(bias, (size,))))
    write_safetensors(folder / HEADS, tensors)
    return tuple(exits), size


def write_dense(dense: Source, folder: Path, architecture: Architecture) -> tuple[tuple[int, ...], int]:
    """Turn a Dense module into the head of the last layer. Returns that exit and the length of the head's output."""
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
    file = open_tensors(path)
    layers, size = architecture.layers, config.get("out_features")
    if not isinstance(size, int) or size < 1:
        raise RefusedError(f"{name}/config.json: out_features {size!r} is not a size")
    weight_spec = TensorSpec("linear.weight", (size, architecture.hidden_size))
    weight = read_checked(file, "linear.weight", weight_spec)._replace(name=f"heads.{layers}.weight")
    if "linear.bias" in file.names():
        bias = read_checked(file, "linear.bias", TensorSpec("linear.bias", (size,)))
    else:
        bias = StoredTensor("", np.zeros(size, _NUMPY_NAMES[weight.dtype]), weight.dtype)
    write_safetensors(folder / HEADS, [weight, bias._replace(name=f"heads.{layers}.bias")])
    return (layers,), size
