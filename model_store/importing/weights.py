"""The encoder's tensors: found under whatever prefix the checkpoint has, checked one by one, written anew."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from strata.model_store.bundle.families import TensorSpec, encoder_tensors
from strata.model_store.bundle.finite import check_finite
from strata.model_store.bundle.manifest import Architecture
from strata.model_store.bundle.tensors import TensorFile
from strata.model_store.bundle.watch import Watch, unwatched
from strata.model_store.importing.refusal import RefusedError
from strata.model_store.importing.safetensors_writer import StoredTensor, write_safetensors
from strata.model_store.importing.source import Source

WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_OTHER_FORMATS = (".onnx", ".gguf", ".h5", ".msgpack", ".ot", ".pt", ".ckpt", ".safetensors")
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# What task heads and wrappers put before the encoder's own names, one dotted word at a time.
_WRAPPERS = {"0", "auto_model", "module", "model", "bert", "roberta", "distilbert", "mpnet"}
_INNER = ("embeddings.", "encoder.", "transformer.", "layers.")  # names inside an encoder; heads have others
_OLD_NORM_NAMES = {"gamma": "weight", "beta": "bias"}  # TensorFlow's, kept by old BERT checkpoints


def write_encoder(
    source: Source, target: Path, architecture: Architecture, *, whole: bool = False, watch: Watch = unwatched
) -> None:
    """Write ``target`` with the tensors the encoder needs, dtypes kept. Raises RefusedError naming file and tensor.

    ``whole``: tensors of the encoder that its family does not have are an error, not left out.
    """
    found: dict[str, list[tuple[TensorFile, str]]] = {}
    for file in _checkpoint(source):
        for name in file.names():
            found.setdefault(plain_name(name), []).append((file, name))
    tensors = []
    for spec in encoder_tensors(architecture):
        candidates = found.get(spec.name, [])
        if not candidates:
            raise RefusedError(f"{source.path}: the weights lack the tensor {spec.name}, which config.json calls for")
        if len(candidates) > 1:
            names = " and ".join(name for _, name in candidates)
            raise RefusedError(f"{source.path}: the weights hold {names}; which of them is {spec.name} is not clear")
        tensors.append(read_checked(*candidates[0], spec))
        watch(tensors[-1].array.nbytes)
    if whole and (strange := sorted(name for name in set(found) - _names(architecture) if name.startswith(_INNER))):
        raise RefusedError(
            f"{source.path}: the weights hold {strange[0]}, which no plain {architecture.family} has; code that the "
            "folder brings for its model (auto_map) may need it, and is never run"
        )
    write_safetensors(target, tensors, watch)


def _names(architecture: Architecture) -> set[str]:
    return {spec.name for spec in encoder_tensors(architecture)} | {"embeddings.position_ids"}


def read_checked(file: TensorFile, name: str, spec: TensorSpec) -> StoredTensor:
    """The tensor ``name`` of ``file``, to be stored as ``spec.name``. Raises RefusedError on a wrong shape or NaN."""
    try:
        shape = file.shape(name)
        if len(shape) != len(spec.shape) or any(w not in (-1, g) for w, g in zip(spec.shape, shape, strict=True)):
            raise RefusedError(f"{file.name}: {name} has shape {shape}; config.json calls for {spec.shape}")
        array, dtype = file.stored(name)
        check_finite(file, name)
    except ValueError as error:
        raise error if isinstance(error, RefusedError) else RefusedError(str(error)) from error
    return StoredTensor(spec.name, array, dtype)


def has_safetensors(source: Source) -> bool:
    """Whether a folder has weights that can be read without running anything."""
    return source.file(WEIGHTS) is not None or source.file(_INDEX) is not None


def open_tensors(path: Path) -> TensorFile:
    """Map a safetensors file. Raises RefusedError when it is not sound."""
    try:
        return TensorFile(path)
    except (ValueError, OSError) as error:
        raise RefusedError(str(error)) from error


def plain_name(name: str) -> str:
    """The tensor's name inside the bare encoder."""
    parts = name.split(".")
    while len(parts) > 1 and parts[0] in _WRAPPERS:
        parts.pop(0)
    parts[-1] = _OLD_NORM_NAMES.get(parts[-1], parts[-1])
    return ".".join(parts)


def _checkpoint(source: Source) -> Iterable[TensorFile]:
    """The file, or the shards, that hold the weights."""
    whole = source.file(WEIGHTS)
    if whole is not None:
        return [open_tensors(whole)]
    index = source.object(_INDEX).get("weight_map")
    if index is not None:
        return _shards(source, index)
    if any(source.file(name) for name in PICKLES):
        raise RefusedError(
            f"{source.path}: the weights are pickled (pytorch_model.bin), and opening a pickle can run code. Convert "
            "them where you trust them: AutoModel.from_pretrained(folder).save_pretrained(folder)"
        )
    others = sorted(path.name for path in source.path.iterdir() if path.suffix in _OTHER_FORMATS)
    instead = f"; it holds {', '.join(others)[:200]}, but weights must be safetensors" if others else ""
    raise RefusedError(f"{source.path}: holds no {WEIGHTS}{instead}")


def _shards(source: Source, index: object) -> Iterable[TensorFile]:
    if not isinstance(index, dict) or not all(isinstance(name, str) for name in index.values()):
        raise RefusedError(f"{source.path / _INDEX}: weight_map must name a file for each tensor")
    shards = []
    for name in sorted(set(index.values())):
        path = source.file(name)
        if path is None:
            raise RefusedError(f"{source.path / name}: missing, though {_INDEX} names it")
        shards.append(open_tensors(path))
    return shards
