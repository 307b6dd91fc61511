"""The sentence-transformers files of a bundle, written anew: old and new releases read them, and they name no code."""

from __future__ import annotations

import shutil
from pathlib import Path

from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.writing import make_folder, write_json
from strata.model_store.importing.sentence_config import SentenceConfig

_TYPES = "sentence_transformers.models."


def write_sentence_files(folder: Path, manifest: Manifest, origin: SentenceConfig) -> None:
    """Make ``folder`` a sentence-transformers folder that gives full-depth vectors, as the model's origin did."""
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if origin.dense is not None:
        modules.append(("2_Dense", "Dense"))
        _copy_dense(origin, folder / "2_Dense")
    if origin.normalize:
        modules.append((f"{len(modules)}_Normalize", "Normalize"))
    listed = [{"idx": i, "name": str(i), "path": path, "type": _TYPES + kind} for i, (path, kind) in enumerate(modules)]
    _write(folder / "modules.json", listed)
    pooling: dict[str, object] = {"word_embedding_dimension": manifest.architecture.hidden_size}
    for mode, key in (("cls", "cls_token"), ("mean", "mean_tokens"), ("max", "max_tokens")):
        pooling[f"pooling_mode_{key}"] = mode == manifest.pooling
    _write(folder / "1_Pooling" / "config.json", pooling)
    settings = {"max_seq_length": manifest.max_tokens, "do_lower_case": manifest.lowercase}
    _write(folder / "sentence_bert_config.json", settings)
    main: dict[str, object] = {"prompts": manifest.prompts, "default_prompt_name": manifest.default_prompt}
    optional = {"similarity_fn_name": origin.similarity, "truncate_dim": origin.truncate_dim}
    main.update({key: value for key, value in optional.items() if value is not None})
    _write(folder / "config_sentence_transformers.json", main)


def _copy_dense(origin: SentenceConfig, target: Path) -> None:
    assert origin.dense is not None
    config = origin.dense.object("config.json")
    plain: dict[str, object] = {key: config[key] for key in ("in_features", "out_features", "bias") if key in config}
    plain["activation_function"] = "torch.nn.modules.linear.Identity"
    _write(target / "config.json", plain)
    weights = origin.dense.file("model.safetensors")
    assert weights is not None  # write_dense read it
    shutil.copyfile(weights, target / "model.safetensors")


def _write(path: Path, value: object) -> None:
    make_folder(path.parent)
    write_json(path, value)
