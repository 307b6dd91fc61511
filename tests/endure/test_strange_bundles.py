"""Bundles from strangers whose checksums are right: refused with a reason, at once, and nothing in them is run."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import subprocess
from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from strata.app.tokenizer import Tokenizer
from strata.model_store.bundle.bundle import Bundle, BundleError, read_manifest
from strata.model_store.bundle.verification import verify
from tests.conftest import SMALL, STRATA, ServerFactory
from tests.model_store.folders import Tensors, edit_json, edit_tensors, resealed

WEIGHTS = "model.safetensors"
QUERY, DENSE = "encoder.layer.1.attention.self.query.weight", "encoder.layer.1.output.dense.weight"


Header = dict[str, dict[str, Any]]  # of the weights: a tensor's type, shape and place, by its name


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "strange"))


def header(change: Callable[[Header], object]) -> Callable[[Path], None]:
    """Change the header of the weights, and leave the rest as it is."""

    def spoil(bundle: Path) -> None:
        raw = (bundle / WEIGHTS).read_bytes()
        size = int.from_bytes(raw[:8], "little")
        content = json.loads(raw[8 : 8 + size])
        change(content)
        text = json.dumps(content).encode()
        (bundle / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])

    return spoil


def tensors(change: Callable[[Tensors], Tensors]) -> Callable[[Path], None]:
    return lambda bundle: edit_tensors(bundle / WEIGHTS, change)


def weights(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda bundle: (bundle / WEIGHTS).write_bytes(change((bundle / WEIGHTS).read_bytes()))


def architecture(**fields: int) -> Callable[[Path], None]:
    def spoil(bundle: Path) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text())
        manifest["architecture"].update(fields)
        (bundle / "manifest.json").write_text(json.dumps(manifest))

    return spoil


def swapped(content: Header) -> None:
    content[QUERY], content[DENSE] = content[DENSE], content[QUERY]


def overlapping(content: Header) -> None:
    content[QUERY]["data_offsets"] = [0, 4096]


def beyond(content: Header) -> None:
    begin, end = content[QUERY]["data_offsets"]
    content[QUERY]["data_offsets"] = [begin, end + (1 << 40)]


def open_resealed(bundle: Path) -> Bundle:
    """Open it with checksums that are right."""
    resealed(bundle)
    return Bundle.open(bundle)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (weights(lambda raw: raw[:5000]), "not a sound safetensors file"),
        (weights(lambda raw: raw[:-1]), "not a sound safetensors file"),
        (weights(lambda raw: raw + b"more"), "not a sound safetensors file"),
        (weights(lambda raw: b""), "not a sound safetensors file"),
        (weights(lambda raw: struct.pack("<Q", 1 << 62) + raw[8:]), "not a sound safetensors file"),
        (weights(lambda raw: struct.pack("<Q", 99_000_000) + raw[8:]), "not a sound safetensors file"),
        (weights(lambda raw: struct.pack("<Q", 40_000) + b"[" * 40_000), "not a sound safetensors file"),
        (header(swapped), f"{QUERY} has shape|not a sound safetensors file"),
        (header(overlapping), "not a sound safetensors file"),
        (header(beyond), "not a sound safetensors file"),
        (header(lambda h: h[QUERY].update(shape=[1 << 40, 1 << 40])), "not a sound safetensors file"),
        (header(lambda h: h[QUERY].update(shape=[-32, -32])), "not a sound safetensors file"),
        (header(lambda h: h[QUERY].update(dtype="O")), "not a sound safetensors file"),
        (tensors(lambda t: {**t, QUERY: t[QUERY].to(torch.int64)}), f"{QUERY} is I64"),
        (tensors(lambda t: {**t, QUERY: t[QUERY][:, :31]}), rf"{QUERY} has shape \(32, 31\)"),
        (tensors(lambda t: {**t, QUERY: t[DENSE], DENSE: t[QUERY]}), f"{QUERY} has shape"),
        (architecture(vocab_size=4_000_000), "embeddings.word_embeddings.weight has shape"),
        (architecture(positions=1_000_000), "embeddings.position_embeddings.weight has shape"),
        (architecture(intermediate_size=1 << 40), "has shape"),
        (architecture(vocab_size=1 << 40), "vocab_size"),
        (architecture(layers=10**9), "layers"),
        (architecture(hidden_size=1 << 30), "hidden_size"),
    ],
)
def test_what_is_wrong_inside_is_refused_by_name(bundle: Path, spoil: Callable[[Path], object], reason: str) -> None:
    spoil(bundle)
    with pytest.raises(BundleError, match=reason):
        open_resealed(bundle)


def test_the_tokenizer_of_another_model_is_refused(bundle: Path) -> None:
    tokenizer = json.loads((bundle / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    words["surplus"] = max(words.values()) + 1
    (bundle / "tokenizer.json").write_text(json.dumps(tokenizer))
    resealed(bundle)
    with pytest.raises(
        BundleError, match=rf"tokenizer.json: {len(words)} tokens where the model knows {len(words) - 1}"
    ):
        verify(bundle)
    with pytest.raises(BundleError, match="it is another model's"):
        Tokenizer(bundle, read_manifest(bundle), workers=1, default_prompt_name=None)


def test_what_an_editor_or_a_copy_does_to_a_bundle_is_told_or_is_of_no_account(bundle: Path) -> None:
    manifest = bundle / "manifest.json"
    kept = manifest.read_bytes()
    manifest.write_bytes(BOM_UTF8 + kept)
    assert Bundle.open(bundle)
    manifest.write_bytes(kept)
    shutil.rmtree(bundle / "onnx")
    (bundle / "onnx").symlink_to("onnx")
    with pytest.raises(BundleError, match=r"onnx/block_float32.onnx: missing"):
        Bundle.open(bundle)
    edit_json(manifest, max_tokens=10**9)
    with pytest.raises(BundleError, match=r"manifest.json: max_tokens 1000000000 exceeds"):
        read_manifest(bundle)


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json", "onnx"])
def test_links_out_of_the_bundle_are_refused(bundle: Path, name: str) -> None:
    target = bundle.parent / "outside"
    (bundle / name).rename(target)
    (bundle / name).symlink_to(target)
    with pytest.raises(BundleError, match=f"{name}.*leads out of the bundle"):
        Bundle.open(bundle)


def test_tensors_swapped_in_place_are_found_by_their_checksum(bundle: Path) -> None:
    key = QUERY.replace("query", "key")
    raw = bytearray((bundle / WEIGHTS).read_bytes())
    size = int.from_bytes(raw[:8], "little")
    content = json.loads(raw[8 : 8 + size])
    one, other = (slice(*(8 + size + at for at in content[name]["data_offsets"])) for name in (QUERY, key))
    raw[one], raw[other] = raw[other], raw[one]
    (bundle / WEIGHTS).write_bytes(raw)
    with pytest.raises(BundleError, match=f"{WEIGHTS}: its sha256 differs"):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json"])
def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    with pytest.raises(BundleError, match=name):
        Bundle.open(bundle)


def test_a_device_in_place_of_the_manifest_is_not_read_without_end(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()
    (bundle / "manifest.json").symlink_to("/dev/zero")
    with pytest.raises(BundleError, match=r"manifest.json: not a file"):
        Bundle.open(bundle)


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_a_server_runs_nothing_that_a_bundle_brings(start_server: ServerFactory, bundle: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    bomb = pickle.dumps(Bomb(marker))
    for name in ("pytorch_model.bin", "heads.pt", "onnx/block.pkl"):
        (bundle / name).write_bytes(bomb)
    code = f"import os\nos.mkdir({str(marker)!r})\n"
    for name in ("modeling.py", "__init__.py", "sitecustomize.py", "tokenizers.py"):
        (bundle / name).write_text(code)
    edit_json(bundle / "config.json", auto_map={"AutoModel": "modeling.Model", "AutoConfig": "modeling.Model"})
    resealed(bundle)
    server = start_server(bundle)
    assert server.client.post("/embed", json={"inputs": "river"}).status_code == 200
    assert not marker.exists()


@pytest.mark.parametrize(("name", "status"), [(WEIGHTS, 2), ("tokenizer.json", 1)])  # before it listens, or just after
def test_a_server_given_a_pickle_ends_with_the_reason(bundle: Path, tmp_path: Path, name: str, status: int) -> None:
    (bundle / name).write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    resealed(bundle)
    command = [*STRATA, "serve", "--model", str(bundle), "--port", "0", *SMALL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == status
    assert name in done.stderr.splitlines()[-1]
    assert not (tmp_path / "ran").exists()
