"""Where each family keeps its tensors: checkpoint names and shapes, by the part they play in the encoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from strata.model_store.bundle.manifest import Architecture, Manifest


class TensorSpec(NamedTuple):
    """Name in the checkpoint and expected shape (rows first, as torch's Linear keeps them)."""

    name: str
    shape: tuple[int, ...]


# The part's name in the engine -> its name in the checkpoint, inside a block.
_BERT_BLOCK = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "out": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm2": "output.LayerNorm",
}
_DISTILBERT_BLOCK = {
    "q": "attention.q_lin",
    "k": "attention.k_lin",
    "v": "attention.v_lin",
    "out": "attention.out_lin",
    "norm1": "sa_layer_norm",
    "up": "ffn.lin1",
    "down": "ffn.lin2",
    "norm2": "output_layer_norm",
}
_MPNET_BLOCK = {
    "q": "attention.attn.q",
    "k": "attention.attn.k",
    "v": "attention.attn.v",
    "out": "attention.attn.o",
    "norm1": "attention.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm2": "output.LayerNorm",
}
_POST_NORM_BLOCKS = {
    "bert": ("encoder.layer", _BERT_BLOCK),
    "roberta": ("encoder.layer", _BERT_BLOCK),
    "distilbert": ("transformer.layer", _DISTILBERT_BLOCK),
    "mpnet": ("encoder.layer", _MPNET_BLOCK),
}


def embedding_tensors(a: Architecture) -> dict[str, TensorSpec]:
    """Tensors before the first block: word, and where the family has them position, token_type and a norm."""
    h = a.hidden_size
    if a.family == "modernbert":
        return {
            "word": TensorSpec("embeddings.tok_embeddings.weight", (a.vocab_size, h)),
            "norm.weight": TensorSpec("embeddings.norm.weight", (h,)),
        }
    parts = {
        "word": TensorSpec("embeddings.word_embeddings.weight", (a.vocab_size, h)),
        "position": TensorSpec("embeddings.position_embeddings.weight", (a.positions, h)),
        "norm.weight": TensorSpec("embeddings.LayerNorm.weight", (h,)),
        "norm.bias": TensorSpec("embeddings.LayerNorm.bias", (h,)),
    }
    if a.family in ("bert", "roberta"):
        # The number of token types is not ours to know (-1 matches any): only row 0 is ever used.
        parts["token_type"] = TensorSpec("embeddings.token_type_embeddings.weight", (-1, h))
    return parts


def block_tensors(a: Architecture, index: int) -> dict[str, TensorSpec]:
    """Tensors of block ``index`` (0-based), keyed by part, e.g. ``"up.weight"``."""
    h, ffn = a.hidden_size, a.intermediate_size
    if a.family == "modernbert":
        prefix = f"layers.{index}"
        parts = {
            "qkv.weight": TensorSpec(f"{prefix}.attn.Wqkv.weight", (3 * h, h)),
            "out.weight": TensorSpec(f"{prefix}.attn.Wo.weight", (h, h)),
            "norm2.weight": TensorSpec(f"{prefix}.mlp_norm.weight", (h,)),
            "up.weight": TensorSpec(f"{prefix}.mlp.Wi.weight", (2 * ffn, h)),
            "down.weight": TensorSpec(f"{prefix}.mlp.Wo.weight", (h, ffn)),
        }
        if index > 0:  # the embedding norm stands in for the first block's
            parts["norm1.weight"] = TensorSpec(f"{prefix}.attn_norm.weight", (h,))
        return parts
    root, names = _POST_NORM_BLOCKS[a.family]
    shapes = {"q": (h, h), "k": (h, h), "v": (h, h), "out": (h, h), "up": (ffn, h), "down": (h, ffn)}
    parts = {}
    for part, name in names.items():
        shape: tuple[int, ...] = shapes.get(part, (h,))
        parts[f"{part}.weight"] = TensorSpec(f"{root}.{index}.{name}.weight", shape)
        parts[f"{part}.bias"] = TensorSpec(f"{root}.{index}.{name}.bias", shape[:1])
    return parts


def closing_tensors(a: Architecture) -> dict[str, TensorSpec]:
    """Tensors outside the blocks that are not embeddings: ModernBERT's final norm, MPNet's attention bias."""
    if a.family == "modernbert":
        return {"final_norm.weight": TensorSpec("final_norm.weight", (a.hidden_size,))}
    if a.family == "mpnet":
        shape = (a.relative_buckets, a.attention_heads)
        return {"relative_bias": TensorSpec("encoder.relative_attention_bias.weight", shape)}
    return {}


def head_tensors(m: Manifest, layers: int) -> dict[str, TensorSpec]:
    """The head of one exit, in heads.safetensors."""
    return head_parts(layers, m.architecture.hidden_size, m.full_dim, m.head_queries)


def head_parts(layers: int, hidden: int, out: int, queries: int) -> dict[str, TensorSpec]:
    """The tensors of a head of ``queries`` attention queries (0: none) and vectors of length ``out``, by part."""
    parts = {
        "weight": TensorSpec(f"heads.{layers}.weight", (out, max(queries, 1) * hidden)),
        "bias": TensorSpec(f"heads.{layers}.bias", (out,)),
    }
    if queries:
        parts["queries"] = TensorSpec(f"heads.{layers}.queries", (queries, hidden))
    return parts


def encoder_tensors(a: Architecture) -> Iterator[TensorSpec]:
    """Every tensor model.safetensors must hold."""
    yield from embedding_tensors(a).values()
    for index in range(a.layers):
        yield from block_tensors(a, index).values()
    yield from closing_tensors(a).values()
