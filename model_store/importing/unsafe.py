"""What no library is given to load: folders that could have code of theirs run."""

from __future__ import annotations

from pathlib import Path

from strata.model_store.importing.refusal import RefusedError
from strata.model_store.importing.sentence_config import refuse_own_modules
from strata.model_store.importing.source import Source
from strata.model_store.importing.weights import PICKLES, has_safetensors


def safe_folder(folder: Path) -> Path:
    """The folder that a library may load: ``folder``, or the snapshot where it is a model in the hub's cache.

    Refuses a sentence-transformers or Hugging Face folder whose modules bring code, or have pickled weights
    alone: RefusedError naming the file.
    """
    source = Source(folder)
    refuse_own_modules(source)
    modules = source.json("modules.json") or []
    paths = [str(module.get("path") or "") for module in modules if isinstance(module, dict)]
    for path in dict.fromkeys(["", *paths]):
        if not (source.path / path).is_dir():  # Normalize has none
            continue
        part = source.folder(path)
        pickled = next((name for name in PICKLES if part.file(name)), None)
        if pickled and not has_safetensors(part):
            raise RefusedError(
                f"{part.path / pickled}: the weights are pickled, and opening a pickle can run code. Convert them "
                "where you trust them: SentenceTransformer(folder).save_pretrained(folder)"
            )
    return source.path
