"""A bundle on disk: opened only when every file is there, unchanged, and fits the manifest."""

from __future__ import annotations

import hashlib
import json
import os
from codecs import BOM_UTF8
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from strata.model_store.bundle.families import TensorSpec, encoder_tensors, head_tensors
from strata.model_store.bundle.graph_names import FLOAT, INT8, block_graph_name
from strata.model_store.bundle.hub import POINTER_TOLD, is_pointer
from strata.model_store.bundle.manifest import FORMAT_VERSION, INT8_SCALES, MANIFEST_NAME, FileRecord, Manifest
from strata.model_store.bundle.strict import first_fault
from strata.model_store.bundle.tensors import TensorFile
from strata.model_store.bundle.watch import Watch, unwatched
from strata.model_store.bundle.writing import write_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WEIGHTS = "model.safetensors"
HEADS = "heads.safetensors"
TOKENIZER = "tokenizer.json"
GRAPHS = "onnx"
_CHUNK = 4 << 20  # bytes read at once
_MANIFEST_LIMIT = 4 << 20  # bytes; a real manifest is some tens of KB


class BundleError(ValueError):
    """A bundle that must not be served; the message names the file and the reason."""


class Bundle:
    """An opened bundle: its folder, its manifest and its mapped tensors."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path, *, checksums: bool = True, watch: Watch = unwatched) -> Bundle:
        """Open and check a bundle. Raises BundleError naming the file and the reason.

        ``checksums`` take a second for a gigabyte or two: they may be left out where they were, or will be, compared.
        ``watch`` hears of every file's bytes as they are read.
        """
        manifest = read_manifest(path)
        for name, record in manifest.files.items():
            _check_size(path, name, record)
            if checksums:
                _check_content(path, name, record, watch)
        extras = (HEADS,) * bool(manifest.heads) + (INT8_SCALES,) * bool(manifest.int8_scales)
        for name in (WEIGHTS, TOKENIZER, *extras, *_graph_files(manifest)):
            if name not in manifest.files:
                raise BundleError(f"{path / MANIFEST_NAME}: files does not list {name}, which the model needs")
        bundle = cls(path, manifest)
        try:
            _check_shapes(bundle.weights, list(encoder_tensors(manifest.architecture)))
            if bundle.heads is not None:
                _check_shapes(bundle.heads, [t for e in manifest.heads for t in head_tensors(manifest, e).values()])
        except ValueError as error:
            raise BundleError(f"{path}: {error}") from error
        return bundle

    @cached_property
    def weights(self) -> TensorFile:
        """The encoder's tensors."""
        return TensorFile(self.path / WEIGHTS)

    @property
    def heads(self) -> TensorFile | None:
        """The exits' heads, where the model has any; opened anew: no map of what was widened stays in memory."""
        return TensorFile(self.path / HEADS) if self.manifest.heads else None

    @property
    def int8(self) -> TensorFile | None:
        """The scales for int8, where they were measured."""
        return TensorFile(self.path / INT8_SCALES) if self.manifest.int8_scales else None

    def graph(self, name: str) -> bytes:
        """A weightless ONNX graph of the bundle, e.g. ``"block"``."""
        return (self.path / GRAPHS / f"{name}.onnx").read_bytes()


def read_tokenizer(path: Path, *, lowercase: bool = False) -> Tokenizer:
    """The tokenizer of the bundle at ``path``, which neither cuts nor pads. Raises BundleError.

    ``lowercase``: as the manifest has it; see `lower_case`.
    """
    from tokenizers import Tokenizer  # here: looking at a manifest should not wait for it

    try:
        tokenizer = Tokenizer.from_file(str(path / TOKENIZER))
    except Exception as error:  # the library raises bare Exception
        raise BundleError(f"{path / TOKENIZER}: cannot be loaded: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if lowercase:
        lower_case(tokenizer)
    return tokenizer


def lower_case(tokenizer: Tokenizer) -> None:
    """Let the tokenizer lower-case words, and leave the special tokens that a text spells out: as do_lower_case does.

    Lower-casing the text itself would turn "[MASK]" into words, and a Greek sigma at a word's end into another letter.
    """
    from tokenizers.normalizers import BertNormalizer, Lowercase, Sequence

    own = tokenizer.normalizer
    if not (isinstance(own, BertNormalizer) and own.lowercase):
        tokenizer.normalizer = Lowercase() if own is None else Sequence([Lowercase(), own])


def check_vocabulary(path: Path, tokenizer: Tokenizer, manifest: Manifest) -> None:
    """Refuse a tokenizer with more tokens than the model at ``path`` has rows for. Raises BundleError."""
    found, known = tokenizer.get_vocab_size(), manifest.architecture.vocab_size
    if found > known:
        raise BundleError(f"{path / TOKENIZER}: {found} tokens where the model knows {known}; it is another model's")


def _graph_files(manifest: Manifest) -> list[str]:
    """The graphs the onnxruntime backend may ask for."""
    a = manifest.architecture
    names = {block_graph_name(a, index, kind) for index in range(min(a.layers, 2)) for kind in (FLOAT, INT8)}
    return [f"{GRAPHS}/{name}.onnx" for name in sorted(names)]


def read_manifest(path: Path) -> Manifest:
    """The manifest of the bundle at ``path``, its files unchecked. Raises BundleError."""
    file = path / MANIFEST_NAME
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for, a device read without end
            raise BundleError(f"{file}: not a file")
        if file.stat().st_size > _MANIFEST_LIMIT:
            raise BundleError(f"{file}: larger than {_MANIFEST_LIMIT} bytes; not a manifest")
        raw = file.read_bytes().removeprefix(BOM_UTF8)  # some editors put one there
        version = json.loads(raw).get("format_version")
    except (OSError, AttributeError, ValueError, RecursionError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"{file}: cannot be read: {error}") from error
    if version != FORMAT_VERSION:
        raise BundleError(f"{file}: format_version is {version!r}; this Strata reads version {FORMAT_VERSION}")
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise BundleError(f"{file}: {first_fault(error)}") from error


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write the manifest of the bundle at ``path``, whole or not at all."""
    write_text(path / MANIFEST_NAME, manifest.model_dump_json(indent=2, exclude_defaults=False) + "\n")


def record_files(path: Path, watch: Watch = unwatched) -> dict[str, FileRecord]:
    """Size and SHA-256 of every file below ``path`` but the manifest, by relative name."""
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name != MANIFEST_NAME)
    return {p.relative_to(path).as_posix(): record_file(p, watch) for p in files}


def record_file(path: Path, watch: Watch = unwatched) -> FileRecord:
    """Size and SHA-256 of one file."""
    return FileRecord(size=path.stat().st_size, sha256=file_sha256(path, watch))


def file_sha256(path: Path, watch: Watch = unwatched) -> str:
    """SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            watch(len(chunk))
    return digest.hexdigest()


def _check_size(root: Path, name: str, record: FileRecord) -> None:
    file = root / name
    if not file.is_file():
        raise BundleError(f"{file}: missing")
    size = file.stat().st_size
    if is_pointer(file):
        raise BundleError(f"{file}: {POINTER_TOLD}")
    if size != record.size:
        raise BundleError(f"{file}: {size} bytes where the manifest says {record.size}; the file is damaged")


def _check_content(root: Path, name: str, record: FileRecord, watch: Watch) -> None:
    file = root / name
    if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(root)):
        raise BundleError(f"{file}: leads out of the bundle")
    if file_sha256(file, watch) != record.sha256:
        raise BundleError(f"{file}: its sha256 differs from the manifest's; the file is damaged or was changed")


def _check_shapes(file: TensorFile, specs: list[TensorSpec]) -> None:
    for name, shape in specs:
        found = file.shape(name)
        fits = len(found) == len(shape) and all(want in (-1, got) for want, got in zip(shape, found, strict=True))
        if not fits:
            raise ValueError(f"{file.name}: {name} has shape {found}; the manifest asks for {shape}")
        file.stored(name)
