"""What models are that Strata does not serve, in the words of those who bring them, and the way on."""

from __future__ import annotations

from typing import Any

from strata.model_store.importing.refusal import RefusedError
from strata.model_store.importing.source import Source

FAMILIES = "BERT, RoBERTa, XLM-RoBERTa, DistilBERT, MPNet, ModernBERT"

_ENGLISH = "for English e.g. Alibaba-NLP/gte-modernbert-base or BAAI/bge-base-en-v1.5"
_MANY = "for many languages e.g. intfloat/multilingual-e5-base or BAAI/bge-m3"
_WAY_ON = f"Use an encoder of a family that is ({FAMILIES}): {_ENGLISH}, {_MANY}"

_DECODER = "a decoder, as Qwen3-Embedding and e5-mistral are: its vector is the last token's; Strata serves encoders"
_GEMMA = "a Gemma 3, as EmbeddingGemma is, whose norms, gates and attention Strata's engine does not have"
_SEQUENCE = "an encoder with a decoder beside it, as in GTR and sentence-t5"
_PICTURES = "a model of pictures and text; Strata serves text alone"
_DECODERS = (
    "bloom cohere falcon gemma gemma2 gpt2 gpt_neo gpt_neox gptj granite llama mistral mixtral olmo olmo2 opt phi phi3 "
    "qwen2 qwen3 qwen3_moe smollm3"
)
_KINDS = {
    **dict.fromkeys(_DECODERS.split(), _DECODER),
    **dict.fromkeys(("gemma3", "gemma3_text"), _GEMMA),
    **dict.fromkeys(("t5", "mt5", "umt5", "bart", "mbart", "pegasus", "marian"), _SEQUENCE),
    **dict.fromkeys(
        ("clip", "siglip", "siglip2", "blip", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "jina_clip"), _PICTURES
    ),
    "nomic_bert": "nomic-embed's own BERT, rotary and gated; nomic-ai/modernbert-embed-base is a ModernBERT",
    "new": "the encoder of gte v1.5, rotary and gated; Alibaba-NLP/gte-modernbert-base is a ModernBERT",
    "gte": "the encoder of gte v1.5 and arctic-embed v2, rotary and gated",
}
_ENCODER_FOLDERS = ("", "0_Transformer/")  # of a sentence-transformers folder, in either generation


def refuse_known_kinds(source: Source, served: tuple[str, ...]) -> None:
    """Refuse a model for what it is, before anything else in its folder is found fault with. Raises RefusedError."""
    for folder in _ENCODER_FOLDERS:
        config = source.object(f"{folder}config.json")
        kind = config.get("model_type")
        if isinstance(kind, str) and kind not in served:
            raise RefusedError(f"{source.path}: {unknown(kind, config)}")
    if source.file("adapter_config.json") and not source.file("config.json"):
        raise RefusedError(
            f"{source.path}: is an adapter (LoRA), which holds only what differs from its base. Merge it where you "
            "trust both: PeftModel.from_pretrained(base, folder).merge_and_unload().save_pretrained(out)"
        )


def unknown(kind: object, config: dict[str, Any]) -> str:
    """What a ``model_type`` that cannot be served is."""
    what = _KINDS.get(kind) if isinstance(kind, str) else None
    told = (
        f"config.json: model_type {kind!r} is not supported: it is {what}"
        if what
        else (f"config.json: model_type {kind!r} is not supported")
    )
    return f"{told}{own_code(config)}. {_WAY_ON}"


def own_code(config: dict[str, Any]) -> str:
    """Half a sentence on the code that the folder brings for its model, where it does."""
    code = _own_model(config)
    return f". Its code is its own (auto_map: {code}), and code that comes with a model is never run" if code else ""


def has_own_code(config: dict[str, Any]) -> bool:
    """Whether config.json names code for the model itself, which may do anything with weights of a known shape."""
    return _own_model(config) is not None


def _own_model(config: dict[str, Any]) -> str | None:
    named = config.get("auto_map")
    code = named.get("AutoModel") if isinstance(named, dict) else None
    return str(code)[:100] if code else None
