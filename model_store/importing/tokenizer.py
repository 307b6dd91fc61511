"""The tokenizer: a fast tokenizer.json, taken as it is or made from a slow vocabulary."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tokenizers import Tokenizer

from strata.model_store.bundle.bundle import TOKENIZER
from strata.model_store.bundle.manifest import Architecture
from strata.model_store.importing.refusal import RefusedError
from strata.model_store.importing.source import TOKENIZER_LIMIT, Source

_JSON_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model")
_NO_LIMIT = 1_000_000  # model_max_length above this is transformers' way of saying nothing


def copy_tokenizer(source: Source, folder: Path, architecture: Architecture) -> None:
    """Put tokenizer.json and its companions into ``folder``. Raises RefusedError where they do not fit the encoder."""
    for name in (TOKENIZER, *_VOCABULARIES):
        path = source.file(name, TOKENIZER_LIMIT)
        if path is not None:
            shutil.copyfile(path, folder / name)
    for name in _JSON_FILES:
        content = source.object(name)
        content.pop("auto_map", None)  # names code to load; nothing here ever does
        if content:
            (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if not (folder / TOKENIZER).exists():
        _convert(source, folder)
    _check(folder / TOKENIZER, architecture)


def tokenizer_limit(source: Source) -> int | None:
    """``model_max_length`` of the tokenizer, in tokens, where it says one."""
    length = source.object("tokenizer_config.json").get("model_max_length")
    return int(length) if isinstance(length, int | float) and 1 <= length <= _NO_LIMIT else None


def _convert(source: Source, folder: Path) -> None:
    """Make a fast tokenizer of the slow vocabulary already copied to ``folder``."""
    if not any((folder / name).exists() for name in _VOCABULARIES):
        raise RefusedError(f"{source.path}: holds neither {TOKENIZER} nor a vocabulary to make it from")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        tokenizer.save_pretrained(str(folder))
    except Exception as error:  # whatever a vocabulary we know nothing of makes transformers raise
        raise RefusedError(f"{source.path}: no {TOKENIZER}, and transformers cannot make one: {error}") from error
    if not (folder / TOKENIZER).exists():
        raise RefusedError(f"{source.path}: no {TOKENIZER}, and its tokenizer has no fast form")


def _check(path: Path, architecture: Architecture) -> None:
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise RefusedError(f"{TOKENIZER}: cannot be loaded: {error}") from error
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if highest < 0:
        raise RefusedError(f"{TOKENIZER}: knows no tokens")
    if highest >= architecture.vocab_size:
        raise RefusedError(
            f"{TOKENIZER}: token id {highest} has no row in the word embeddings, which have {architecture.vocab_size}"
        )
