"""The tokenizer: one tokenizer.json that gives the ids transformers gives, whatever files say them there."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from tokenizers import Tokenizer

from strata.model_store.bundle.bundle import TOKENIZER
from strata.model_store.bundle.manifest import Architecture
from strata.model_store.bundle.writing import write_json, write_text
from strata.model_store.importing.refusal import RefusedError
from strata.model_store.importing.source import TOKENIZER_LIMIT, Source

logger = logging.getLogger(__name__)

_JSON_FILES = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_VOCABULARIES = ("vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model")
_NO_LIMIT = 1_000_000  # model_max_length above this is transformers' way of saying nothing


def copy_tokenizer(source: Source, folder: Path, architecture: Architecture) -> None:
    """Put tokenizer.json and its companions into ``folder``, which holds config.json already.

    The ids are transformers' own: keys of tokenizer_config.json win over tokenizer.json as they do there, and are
    written into it. Raises RefusedError where it cannot be read, or does not fit the encoder.
    """
    for name in (TOKENIZER, *_VOCABULARIES):
        path = source.file(name, TOKENIZER_LIMIT)
        if path is not None:
            shutil.copyfile(path, folder / name)
    for name in _JSON_FILES:
        content = source.object(name)
        content.pop("auto_map", None)  # names code to load; nothing here ever does
        if content:
            write_json(folder / name, content)
    if (folder / TOKENIZER).exists():
        _load(folder / TOKENIZER)
    elif not any((folder / name).exists() for name in _VOCABULARIES):
        raise RefusedError(f"{source.path}: holds neither {TOKENIZER} nor a vocabulary to make it from")
    _refuse_unwritable(source.object("tokenizer_config.json"))
    _settle(source, folder, architecture)
    _check(folder / TOKENIZER, architecture)


def special_tokens(folder: Path) -> int:
    """How many tokens the tokenizer of ``folder`` adds to a text."""
    return _load(folder / TOKENIZER).num_special_tokens_to_add(is_pair=False)


def tokenizer_limit(source: Source) -> int | None:
    """``model_max_length`` of the tokenizer, in tokens, where it says one."""
    length = source.object("tokenizer_config.json").get("model_max_length")
    return int(length) if isinstance(length, int | float) and 1 <= length <= _NO_LIMIT else None


def _refuse_unwritable(config: dict[str, object]) -> None:
    """Settings that transformers keeps beside tokenizer.json, which has no place for them."""
    if config.get("split_special_tokens"):
        raise RefusedError(
            "tokenizer_config.json: split_special_tokens is set; special tokens written out in a text are always read "
            "as such here. Remove the key if the model was not trained with it"
        )
    if config.get("truncation_side", "right") != "right":
        logger.warning(
            "tokenizer_config.json: truncation_side is %r; long texts are cut at their end, unless a request says "
            '"truncation_direction": "Left"',
            config["truncation_side"],
        )


def _settle(source: Source, folder: Path, architecture: Architecture) -> None:
    """Replace tokenizer.json by what transformers makes of the whole folder, where that gives other ids."""
    from transformers import AutoTokenizer

    try:
        found = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # whatever a tokenizer we know nothing of makes transformers raise
        raise RefusedError(f"{source.path}: transformers cannot load the tokenizer: {error}") from error
    backend = getattr(found, "backend_tokenizer", None)
    if backend is None:
        raise RefusedError(f"{source.path}: its tokenizer, {type(found).__name__}, has no fast form")
    made = Tokenizer.from_str(backend.to_str())
    _refuse_other_padding(found.pad_token, found.pad_token_id, architecture)
    if not (folder / TOKENIZER).exists() or _plain(made) != _plain(_load(folder / TOKENIZER)):
        write_text(folder / TOKENIZER, made.to_str(pretty=True))


def _refuse_other_padding(token: str | None, found: int | None, architecture: Architecture) -> None:
    """Positions that begin after the padding's id skip that id in transformers, in the midst of a text, too."""
    expected = architecture.position_offset - 1
    if architecture.position_offset and found is not None and found != expected:
        raise RefusedError(
            f"config.json: positions are counted from the padding id {expected}, and the tokenizer pads with {token}, "
            f"id {found}: texts that hold id {expected} have other vectors in transformers. Mend whichever is wrong, "
            "pad_token_id or the tokenizer's pad_token"
        )


def _plain(tokenizer: Tokenizer) -> str:
    """The tokenizer without its limits, which no id depends on."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer.to_str()


def _load(path: Path) -> Tokenizer:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise RefusedError(f"{TOKENIZER}: cannot be loaded: {error}") from error


def _check(path: Path, architecture: Architecture) -> None:
    tokenizer = _load(path)
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if highest < 0:
        raise RefusedError(f"{TOKENIZER}: knows no tokens")
    if highest >= architecture.vocab_size:
        raise RefusedError(
            f"{TOKENIZER}: token id {highest} has no row in the word embeddings, which have {architecture.vocab_size}"
        )
