"""A bundle opens only when every file is there, unchanged, and fits the manifest; else the reason names the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from strata.model_store.bundle.bundle import Bundle, BundleError
from strata.model_store.bundle.verification import verify
from tests.model_store.folders import Tensors, edit_tensors, resealed


def test_a_sound_bundle_opens_and_verifies(sound_bundle: Path) -> None:
    manifest = Bundle.open(sound_bundle).manifest
    assert manifest.exits == (2, 4)
    assert manifest.dims == (8, 16, 32)
    assert manifest.elastic
    assert verify(sound_bundle) == manifest


def test_the_revision_changes_with_the_weights_and_not_with_the_name(bundle: Path) -> None:
    before = Bundle.open(bundle).manifest
    assert before.model_copy(update={"name": "other"}).revision == before.revision
    edit_tensors(bundle / "model.safetensors", lambda tensors: {k: v * 1.01 for k, v in tensors.items()})
    assert resealed(bundle).revision != before.revision


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "onnx/block_float32.onnx"])
def test_a_changed_file_is_refused_by_name(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=rf"{name}: its sha256 differs"):
        Bundle.open(bundle)


def test_a_truncated_file_is_refused_by_name(bundle: Path) -> None:
    os.truncate(bundle / "model.safetensors", 1000)
    with pytest.raises(BundleError, match=r"model.safetensors: 1000 bytes where the manifest says \d+"):
        Bundle.open(bundle)


def test_a_missing_file_is_refused_by_name(bundle: Path) -> None:
    (bundle / "tokenizer.json").unlink()
    with pytest.raises(BundleError, match=r"tokenizer.json: missing"):
        Bundle.open(bundle)


def test_a_file_that_is_a_link_out_of_the_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    outside = (bundle / "tokenizer.json").rename(tmp_path / "outside.json")
    (bundle / "tokenizer.json").symlink_to(outside)
    with pytest.raises(BundleError, match=r"tokenizer.json: leads out of the bundle"):
        Bundle.open(bundle)


def _without(field: str) -> Callable[[dict[str, object]], object]:
    return lambda manifest: manifest.pop(field)


def _with(**fields: object) -> Callable[[dict[str, object]], object]:
    return lambda manifest: manifest.update(fields)


_RECORD = {"size": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_with(format_version=2), "format_version is 2; this Strata reads version 1"),
        (_without("format_version"), "format_version is None"),
        (_with(speed="fast"), "speed: Extra inputs are not permitted"),
        (_without("pooling"), "pooling: Field required"),
        (_with(pooling="max"), "pooling: "),
        (_with(exits=[4, 2]), "exits must be ascending"),
        (_with(exits=[2]), "exits must end with the last layer, 4"),
        (_with(exits=[2, 4, 5]), "exits must be ascending, without repeats, and at most 4"),
        (_with(dims=[8]), "dims must end with the full length, 32"),
        (_with(dims=[0, 32]), "dims"),
        (_with(exit_norm="final"), "exit_norm 'final' needs a pre-norm encoder"),
        (_with(max_tokens=513), "max_tokens 513 exceeds the 512 positions"),
        (_with(default_prompt="nope"), "default_prompt 'nope' is not among the prompts"),
        (_with(files={"../model.safetensors": _RECORD}), "not a plain path inside the bundle"),
        (_with(files={"/etc/passwd": _RECORD}), "not a plain path inside the bundle"),
        (_with(files={"onnx/../../x": _RECORD}), "not a plain path inside the bundle"),
        (_with(files={}), "files does not list model.safetensors"),
        (_with(heads=[2]), "files does not list heads.safetensors"),
        (_with(head_queries=2), "head_queries needs heads"),
    ],
)
def test_a_manifest_that_is_not_understood_whole_is_refused(
    bundle: Path, change: Callable[[dict[str, object]], object], reason: str
) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"manifest.json") as refusal:
        Bundle.open(bundle)
    assert reason in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read"),
        (b"[1, 2]", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[" * 200_000, "cannot be read"),
        (b" " * (5 << 20), "larger than"),
    ],
)
def test_a_manifest_that_is_no_manifest_is_refused(bundle: Path, content: bytes, reason: str) -> None:
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(BundleError, match=reason):
        Bundle.open(bundle)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest.json: cannot be read"):
        Bundle.open(tmp_path)


def test_tensors_that_do_not_fit_the_manifest_are_refused_by_name(bundle: Path) -> None:
    name = "encoder.layer.2.output.dense.weight"
    edit_tensors(bundle / "model.safetensors", lambda tensors: {**tensors, name: torch.zeros(3, 3)})
    resealed(bundle)
    with pytest.raises(BundleError, match=rf"model.safetensors: {name} has shape \(3, 3\)"):
        Bundle.open(bundle)


def test_missing_tensors_are_refused_by_name(bundle: Path) -> None:
    name = "encoder.layer.2.output.dense.weight"
    edit_tensors(bundle / "model.safetensors", lambda tensors: {k: v for k, v in tensors.items() if k != name})
    resealed(bundle)
    with pytest.raises(BundleError, match=f"lacks the tensor {name}"):
        Bundle.open(bundle)


def test_weights_that_are_no_safetensors_are_refused(bundle: Path) -> None:
    (bundle / "model.safetensors").write_bytes(b"\x80\x04pickled")
    resealed(bundle)
    with pytest.raises(BundleError, match=r"model.safetensors is not a sound safetensors file"):
        Bundle.open(bundle)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_verify_finds_weights_that_are_no_numbers(bundle: Path, dtype: torch.dtype, value: float) -> None:
    name = "encoder.layer.3.output.LayerNorm.weight"

    def spoil(tensors: Tensors) -> Tensors:
        tensors = {key: tensor.to(dtype) for key, tensor in tensors.items()}
        tensors[name][7] = value
        return tensors

    edit_tensors(bundle / "model.safetensors", spoil)
    resealed(bundle)
    with pytest.raises(BundleError, match=f"model.safetensors: {name} holds NaN or infinity"):
        verify(bundle)
