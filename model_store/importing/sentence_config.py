"""What a sentence-transformers folder says beside its encoder, in either generation of its files."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from strata.model_store.bundle.manifest import Pooling
from strata.model_store.importing.refusal import RefusedError
from strata.model_store.importing.source import Source

logger = logging.getLogger(__name__)

_MAIN = "config_sentence_transformers.json"
# Names that sentence-transformers has used for the encoder's own settings.
_ENCODER_CONFIGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_xlm-roberta_config.json",
)
_OLD_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_OWN = "sentence_transformers."
_ORDERS = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Dense"])  # and Normalize after either


@dataclass(frozen=True)
class SentenceConfig:
    """The facts Strata needs of a sentence-transformers folder; a plain Hugging Face folder has the defaults."""

    encoder: Source
    pooling: Pooling | None = None
    normalize: bool = False
    dense: Source | None = None
    lowercase: bool = False
    max_tokens: int | None = None
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    similarity: str | None = None
    truncate_dim: int | None = None  # what this copy was set to return; says nothing of what was trained


def read_sentence_config(source: Source) -> SentenceConfig:
    """Read ``modules.json`` and the files it names. Raises RefusedError where a module cannot be served."""
    modules = source.json("modules.json")
    if modules is None:
        return SentenceConfig(encoder=source, **_encoder_settings(source))
    kinds, folders = _modules(source, modules)
    normalize = kinds[-1] == "Normalize"
    encoder = source.folder(folders[0])
    main = source.object(_MAIN)
    if main.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        raise RefusedError(f"{_MAIN}: model_type {main['model_type']!r} gives no dense vectors")
    prompts, default_prompt = _prompts(main)
    return SentenceConfig(
        encoder=encoder,
        pooling=_pooling(source.json(f"{folders[1]}/config.json"), f"{folders[1]}/config.json", prompts),
        normalize=normalize,
        dense=source.folder(folders[2]) if "Dense" in kinds else None,
        prompts=prompts,
        default_prompt=default_prompt,
        similarity=main.get("similarity_fn_name"),
        truncate_dim=main.get("truncate_dim"),
        **_encoder_settings(encoder),
    )


def read_prompts(source: Source) -> tuple[dict[str, str], str | None]:
    """The prompts of a folder by name, and the name of the default one, as its own file says; RefusedError.

    A model that sentence-transformers has loaded tells other ones: it adds an empty "query" and "document".
    """
    return _prompts(source.object(_MAIN)) if source.file("modules.json") else ({}, None)


def _modules(source: Source, modules: Any) -> tuple[list[str], list[str]]:
    """Kinds and folders of the modules, in order. The module path moved between generations; its last word did not."""
    try:
        ordered = sorted(modules, key=lambda module: module["idx"])
        kinds = [str(module["type"]).rsplit(".", 1)[-1] for module in ordered]
        folders = [str(module["path"]) for module in ordered]
    except (TypeError, KeyError) as error:
        raise RefusedError(f"{source.path / 'modules.json'}: must list modules with idx, path and type") from error
    if (kinds[:-1] if kinds[-1:] == ["Normalize"] else kinds) not in _ORDERS:
        raise RefusedError(
            f"{source.path / 'modules.json'}: the modules {' > '.join(kinds)} cannot be served; supported are "
            "Transformer > Pooling, then Dense or not, then Normalize or not"
        )
    if code := _own_code(ordered):
        logger.warning(
            "modules.json names code of the folder's own (%s), which is not run: it is taken as the plain %s of "
            "sentence-transformers",
            code,
            code.rsplit(".", 1)[-1],
        )
    return kinds, folders


def refuse_own_modules(source: Source) -> None:
    """Refuse a folder whose modules bring code: some releases of sentence-transformers run it unasked. RefusedError."""
    modules = source.json("modules.json")
    if code := _own_code(modules if isinstance(modules, list) else []):
        raise RefusedError(
            f"{source.path / 'modules.json'}: names code of the folder's own ({code}), which is never run. If it adds "
            f"nothing, name sentence_transformers.models.{code.rsplit('.', 1)[-1]} in its place"
        )


def _own_code(modules: list[Any]) -> str | None:
    kinds = [str(module.get("type")) for module in modules if isinstance(module, dict)]
    return next((kind[:100] for kind in kinds if not kind.startswith(_OWN)), None)


def _pooling(config: Any, name: str, prompts: dict[str, str]) -> Pooling:
    if not isinstance(config, dict):
        raise RefusedError(f"{name}: is missing, or no object; modules.json names it")
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _OLD_POOLING.items() if config.get(key)] or ["mean"]
    if modes not in ("mean", "cls", ["mean"], ["cls"]):
        raise RefusedError(f"{name}: pooling {modes!r} is not supported, only mean or cls")
    if config.get("include_prompt") is False and any(prompts.values()):
        raise RefusedError(
            f"{name}: include_prompt is false; leaving the prompt's tokens out of the pooling is not supported"
        )
    return "mean" if modes in ("mean", ["mean"]) else "cls"


def _encoder_settings(encoder: Source) -> dict[str, Any]:
    """max_tokens and lowercase of the Transformer module."""
    name = next((name for name in _ENCODER_CONFIGS if encoder.file(name)), _ENCODER_CONFIGS[0])
    config = encoder.object(name)
    output = config.get("module_output_name", "token_embeddings")
    if config.get("transformer_task", "feature-extraction") != "feature-extraction" or output != "token_embeddings":
        raise RefusedError(f"{name}: the encoder is not used for token embeddings")
    length = config.get("max_seq_length")
    if length is not None and (not isinstance(length, int) or length < 1):
        raise RefusedError(f"{name}: max_seq_length {length!r} is not a number of tokens")
    return {"max_tokens": length, "lowercase": bool(config.get("do_lower_case", False))}


def _prompts(main: dict[str, Any]) -> tuple[dict[str, str], str | None]:
    prompts = main.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise RefusedError(f"{_MAIN}: prompts must give a text for each name")
    return {name: text or "" for name, text in prompts.items()}, main.get("default_prompt_name") or None
