"""Scales for int8: each dense layer's input seen on some texts, and what int8 then does to every exit's vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from strata.model_store.bundle.bundle import Bundle, read_tokenizer, record_file, write_manifest
from strata.model_store.bundle.families import block_tensors
from strata.model_store.bundle.int8 import PARTS, Scale, has_smooth, scale_of, tensor_names
from strata.model_store.bundle.manifest import INT8_SCALES, Int8Scales, Manifest
from strata.model_store.bundle.writing import FILE_MODE
from strata.model_store.encoding.reference import ReferenceEncoder, unit
from strata.model_store.importing.safetensors_writer import StoredTensor, write_safetensors
from strata.model_store.profiling.texts import Texts

LEAST_COSINE = 0.995  # that int8 must keep to fp32, for every text at every exit
_AIM = 0.997  # what is aimed at on the texts checked: there are others, and attention in bfloat16 takes a little, too
_WIDE = 2  # dense layers that each attempt leaves out of int8 beyond the one before, the worst first
_MOST_WIDE = 1 / 3  # share of all dense layers that may be left out
_ALPHA = 0.5  # how much of the outliers moves into the weights (SmoothQuant, arXiv 2211.10438)
Layer = tuple[int, str]  # a dense layer: block, part
_CHECKED = 4  # one text in so many is kept for the check


def calibrate(folder: Path, texts: Texts) -> Int8Scales:
    """Measure the scales of the bundle in ``folder``, check them on texts they were not measured on, and keep them.

    Where the check falls short, the dense layers whose input loses most to its 256 steps get no scales.
    Raises ValueError, and keeps nothing, where a text's vector at some exit has a cosine to fp32 under 0.995.
    """
    manifest = Bundle.open(folder).manifest
    encoder = ReferenceEncoder(folder, torch.device("cpu"))
    # A text may spell out the tokenizer's own tokens, whose numbers are unlike those of words.
    own = [spelt for token in read_tokenizer(folder).get_added_tokens_decoder().values() for spelt in _spelt(token)]
    checked = [*texts.lines[::_CHECKED], *own]
    seen = [*(text for i, text in enumerate(texts.lines) if i % _CHECKED), *own]
    exact = encoder.encode(checked)
    measured, noise = _measure(encoder, manifest, seen)
    worst_first = sorted(noise, key=lambda layer: -noise[layer])

    def trial(wide: list[Layer]) -> _Trial:
        left_out = {name for layer in wide for name in tensor_names(*layer)}
        tensors = {name: array for name, array in measured.items() if name not in left_out}
        rounded = ReferenceEncoder(folder, torch.device("cpu"))
        _quantise(rounded, manifest, tensors)
        rough, dim = rounded.encode(checked), manifest.full_dim
        worst = {e: float((unit(exact[e], dim) * unit(rough[e], dim)).sum(1).min()) for e in manifest.exits}
        return _Trial(wide, tensors, worst)

    best = trial([])
    while best.least < _AIM and len(best.wide) + _WIDE <= _MOST_WIDE * len(noise):
        best = trial(worst_first[: len(best.wide) + _WIDE])
    worst, tensors = best.worst, best.tensors
    if min(worst.values()) < LEAST_COSINE:
        told = ", ".join(f"{exit_}: {cosine:.4f}" for exit_, cosine in worst.items())
        raise ValueError(f"worst cosine to float32 by exit: {told}; {LEAST_COSINE} is the least, so int8 is not for it")
    told_of = Int8Scales(
        texts=texts.name,
        count=len(texts.lines),
        worst_cosine={k: round(v, 5) for k, v in worst.items()},
        wide=sorted(f"blocks.{index}.{part}" for index, part in best.wide),
    )
    path = folder / INT8_SCALES
    write_safetensors(path, [StoredTensor(name, array, "F32") for name, array in sorted(tensors.items())])
    path.chmod(FILE_MODE)
    files = {**manifest.files, INT8_SCALES: record_file(path)}
    write_manifest(folder, manifest.model_copy(update={"int8_scales": told_of, "files": files}))
    return told_of


def _spelt(token: Any) -> tuple[str, str]:
    """A token as a text, alone and repeated."""
    return token.content, f"{token.content} {token.content}"


@dataclass(slots=True, frozen=True)
class _Trial:
    """What int8 does to vectors where some dense layers stay wide."""

    wide: list[Layer]
    tensors: dict[str, np.ndarray]
    worst: dict[int, float]  # cosine to float32, by exit

    @property
    def least(self) -> float:
        """Of all exits."""
        return min(self.worst.values())


def _layers(encoder: ReferenceEncoder, manifest: Manifest, index: int) -> dict[str, list[Any]]:
    """The reference model's dense layers of a block by part; query, key and value are one or three."""
    found: dict[str, list[Any]] = {part: [] for part in PARTS}
    for part, spec in block_tensors(manifest.architecture, index).items():
        name = part.removesuffix(".weight")
        name = "qkv" if name in ("q", "k", "v") else name
        if part.endswith(".weight") and name in found:
            found[name].append(encoder.model.get_submodule(spec.name.removesuffix(".weight")))
    return found


def _measure(
    encoder: ReferenceEncoder, manifest: Manifest, texts: Sequence[str]
) -> tuple[dict[str, np.ndarray], dict[Layer, float]]:
    """The file's tensors, and by dense layer what rounding adds to its input, as a share of its power.

    Texts run one by one, so that no padding is measured.
    """
    a = manifest.architecture
    reach: dict[Layer, tuple[Tensor, Tensor]] = {}
    power: dict[Layer, Tensor] = {}  # [in] sum of squares
    tokens: Counter[Layer] = Counter()
    hooks = []
    layers = {(i, part): found for i in range(a.layers) for part, found in _layers(encoder, manifest, i).items()}
    for key, found in layers.items():

        def look(_: Any, given: tuple[Tensor, ...], key: Layer = key) -> None:
            x = given[0].reshape(-1, given[0].shape[-1])
            power[key] = power.get(key, 0) + x.square().sum(0)
            tokens[key] += len(x)
            low, high = x.amin(0), x.amax(0)
            if key in reach:
                low, high = torch.minimum(low, reach[key][0]), torch.maximum(high, reach[key][1])
            reach[key] = low, high

        hooks.append(found[0].register_forward_pre_hook(look))
    for text in texts:
        encoder.encode([text])
    for hook in hooks:
        hook.remove()
    tensors, noise = {}, {}
    for (index, part), (low, high) in reach.items():
        squares = power[index, part] / tokens[index, part]
        smooth_name, range_name = tensor_names(index, part)
        if has_smooth(a, part):
            weight = torch.cat([layer.weight for layer in layers[index, part]]).detach()
            most = torch.maximum(low.abs(), high.abs()).clamp_min(1e-5)
            smooth = most**_ALPHA / weight.abs().amax(0).clamp_min(1e-5) ** (1 - _ALPHA)
            tensors[smooth_name] = smooth.numpy()
            low, high, squares = low / smooth, high / smooth, squares / smooth.square()
        tensors[range_name] = np.array([low.min(), high.max()], np.float32)
        step = scale_of(float(low.min()), float(high.max())).step
        noise[index, part] = step**2 / 12 / float(squares.mean())
    return tensors, noise


def _quantise(encoder: ReferenceEncoder, manifest: Manifest, tensors: dict[str, np.ndarray]) -> None:
    """Let the reference model compute with the numbers that int8 has, in float32."""
    for index in range(manifest.architecture.layers):
        for part, layers in _layers(encoder, manifest, index).items():
            smooth_name, range_name = tensor_names(index, part)
            if range_name not in tensors:
                continue
            smooth = torch.from_numpy(tensors[smooth_name]) if smooth_name in tensors else None
            scale = scale_of(*tensors[range_name].tolist())
            for layer in layers:
                _round_weight(layer, smooth)
                layer.register_forward_pre_hook(_rounding(scale, smooth))


@torch.no_grad()
def _round_weight(layer: Any, smooth: Tensor | None) -> None:
    weight = layer.weight if smooth is None else layer.weight * smooth
    steps = weight.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
    layer.weight.copy_(torch.round(weight / steps) * steps)


def _rounding(scale: Scale, smooth: Tensor | None) -> Any:
    def rounded(_: Any, given: tuple[Tensor, ...]) -> Tensor:
        x = given[0] if smooth is None else given[0] / smooth
        codes = (torch.round(x / scale.step) + scale.zero).clamp_(0, 255)
        return (codes - scale.zero) * scale.step

    return rounded
