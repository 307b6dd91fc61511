"""The encoder's tensors as the backends want them, straight from the mapped bundle."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from strata.model_store.bundle.bundle import Bundle
from strata.model_store.bundle.families import block_tensors, closing_tensors, embedding_tensors, head_tensors

Array = npt.NDArray[np.float32]


def word_table(bundle: Bundle) -> npt.NDArray[np.generic]:
    """[vocab, hidden] as stored, mapped: only the rows that are looked up are ever read (bf16 is widened)."""
    name = embedding_tensors(bundle.manifest.architecture)["word"].name
    array, dtype = bundle.weights.stored(name)
    return bundle.weights.float32(name) if dtype == "BF16" else array


def embedding_parts(bundle: Bundle) -> dict[str, Array]:
    """Everything of the embedding layer but the word table; a token type (always 0 here) is added to the positions.

    Keys: "norm.weight", "norm.bias" (zeros where the family has none) and, with learned positions, "position",
    whose row i belongs to the i-th token.
    """
    a = bundle.manifest.architecture
    specs = embedding_tensors(a)
    parts = {"norm.weight": bundle.weights.float32(specs["norm.weight"].name)}
    parts["norm.bias"] = (
        bundle.weights.float32(specs["norm.bias"].name) if "norm.bias" in specs else np.zeros(a.hidden_size, np.float32)
    )
    if "position" in specs:
        position = bundle.weights.float32(specs["position"].name)[a.position_offset :]
        if "token_type" in specs:
            position = position + bundle.weights.float32(specs["token_type"].name)[0]
        parts["position"] = position
    return parts


def block_parts(bundle: Bundle, index: int) -> dict[str, Array]:
    """Tensors of block ``index`` (0-based) by part; query, key and value are one: "qkv.weight" [3 * hidden, hidden]."""
    specs = block_tensors(bundle.manifest.architecture, index)
    parts = {part: bundle.weights.float32(spec.name) for part, spec in specs.items()}
    if "q.weight" in parts:
        for kind in ("weight", "bias"):
            parts[f"qkv.{kind}"] = np.concatenate([parts.pop(f"{p}.{kind}") for p in "qkv"])
    return parts


def final_norm(bundle: Bundle) -> Array | None:
    """Weight of a pre-norm encoder's final norm, [hidden]."""
    spec = closing_tensors(bundle.manifest.architecture).get("final_norm.weight")
    return bundle.weights.float32(spec.name) if spec else None


def relative_bias(bundle: Bundle) -> Array | None:
    """MPNet's attention bias by distance: [heads, 2 * n - 1], column ``n - 1 + key - query``, n = longest input.

    Buckets as in T5 (arXiv 1910.10683, section 2.1), two-sided, distances of 128 and more in the last one.
    """
    m = bundle.manifest
    spec = closing_tensors(m.architecture).get("relative_bias")
    if spec is None:
        return None
    reach = np.arange(-(m.max_tokens - 1), m.max_tokens)
    half = m.architecture.relative_buckets // 2
    exact = half // 2
    distance = np.abs(reach)
    far = exact + (np.log(np.maximum(distance, 1) / exact) / np.log(128 / exact) * (half - exact)).astype(np.int64)
    bucket = np.where(distance < exact, distance, np.minimum(far, half - 1)) + np.where(reach > 0, half, 0)
    return np.ascontiguousarray(bundle.weights.float32(spec.name)[bucket].T)


def head_parts(bundle: Bundle) -> dict[int, dict[str, Array]]:
    """By exit, the parts of its head: "weight" [out, width], "bias" [out], and "queries" [n, hidden] where it has any.

    ``width`` is ``hidden``, or with queries their number times that.
    """
    file = bundle.heads
    if file is None:
        return {}
    exits = bundle.manifest.heads
    return {e: {part: file.float32(s.name) for part, s in head_tensors(bundle.manifest, e).items()} for e in exits}
