"""From somebody's model folder to a bundle that can be served, or a reason why not."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

from pydantic import ValidationError

from strata.model_store.bundle.bundle import WEIGHTS, Bundle, BundleError
from strata.model_store.bundle.finishing import finish_bundle
from strata.model_store.bundle.manifest import MANIFEST_NAME, Architecture, ExitNorm, Manifest, Pooling, Provenance
from strata.model_store.bundle.strict import first_fault
from strata.model_store.bundle.watch import Watch, unwatched
from strata.model_store.bundle.writing import write_json
from strata.model_store.importing import facts
from strata.model_store.importing.architecture import SERVED, most_tokens, read_architecture
from strata.model_store.importing.heads import Heads, write_dense, write_heads
from strata.model_store.importing.kinds import has_own_code, refuse_known_kinds
from strata.model_store.importing.overrides import Overrides
from strata.model_store.importing.refusal import RefusedError
from strata.model_store.importing.sentence_config import SentenceConfig, read_sentence_config
from strata.model_store.importing.sentence_files import write_sentence_files
from strata.model_store.importing.source import JSON_LIMIT, Source
from strata.model_store.importing.staging import staged
from strata.model_store.importing.tokenizer import copy_tokenizer, special_tokens, tokenizer_limit
from strata.model_store.importing.weights import write_encoder

logger = logging.getLogger(__name__)

_TEXTS = ("README.md", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE")  # what the licence may ask to keep


def import_model(
    source: Path,
    destination: Path,
    *,
    overrides: Overrides | None = None,
    replace: bool = False,
    made_with: str = "",
    watch: Watch = unwatched,
) -> Manifest:
    """Make a bundle at ``destination`` of the model folder ``source`` and return its manifest.

    ``source`` is a sentence-transformers folder, a plain Hugging Face folder (its pooling then comes from
    ``overrides``), or a bundle, which is checked and copied. The destination appears whole or not at all; one that
    exists is replaced only when ``replace`` is set. Raises RefusedError naming the file and the reason. Nothing of the
    folder is executed: weights are safetensors, and code that configs name is never loaded. ``watch`` hears of bytes,
    about four times as many as the weights have: read and checked, written, recorded, and read as the server would.
    """
    overrides = overrides or Overrides()
    opened = Source(source)
    with staged(destination, replace=replace) as folder:
        if "format_version" in opened.object(MANIFEST_NAME):
            return _copy_bundle(opened, folder, overrides, watch)
        return _make_bundle(opened, folder, overrides, made_with, watch)


def check_importable(source: Path, max_tokens: int) -> None:
    """Refuse a model folder that `import_model` would refuse for what it is, or texts longer than it can read.

    Reads the tokenizer, not the weights. Raises RefusedError.
    """
    opened = Source(source)
    refuse_known_kinds(opened, SERVED)
    sentence = read_sentence_config(opened)
    config = sentence.encoder.object("config.json")
    if not config:
        raise RefusedError(f"{sentence.encoder.path}: holds no config.json")
    architecture = read_architecture(config)
    with tempfile.TemporaryDirectory() as folder:
        _copy_texts(sentence.encoder, Path(folder), config, architecture)
        _max_tokens(sentence, config, Overrides(max_tokens=max_tokens), Path(folder))


def _make_bundle(source: Source, folder: Path, overrides: Overrides, made_with: str, watch: Watch) -> Manifest:
    refuse_known_kinds(source, SERVED)
    sentence = read_sentence_config(source)
    encoder = sentence.encoder
    config = encoder.object("config.json")
    if not config:
        raise RefusedError(f"{encoder.path}: holds no config.json")
    architecture = read_architecture(config)
    exits, exit_norm = _exits(architecture, overrides)
    own_code = has_own_code(config)
    _copy_texts(encoder, folder, config, architecture)
    write_encoder(encoder, folder / WEIGHTS, architecture, whole=own_code, watch=watch)
    if own_code:
        logger.warning(
            "config.json names code for the model (auto_map), which is not run: it is taken as a plain %s",
            architecture.family,
        )
    heads = _write_heads(source, sentence, folder, architecture, exits)
    full_dim = heads.size or architecture.hidden_size
    try:
        manifest = Manifest(
            name=overrides.name or facts.bundle_name(source.path),
            architecture=architecture,
            pooling=overrides.pooling or _pooling(sentence, source),
            exit_norm=exit_norm,
            exits=exits,
            dims=_dims(config, sentence, overrides, full_dim),
            heads=heads.exits,
            head_queries=heads.queries,
            head_size=None if full_dim == architecture.hidden_size else full_dim,
            max_tokens=_max_tokens(sentence, config, overrides, folder),
            lowercase=sentence.lowercase,
            prompts=sentence.prompts,
            default_prompt=sentence.default_prompt,
            provenance=Provenance(
                source=facts.as_text(overrides.source or "") or facts.origin(config, source.path),
                licence=facts.as_text(overrides.licence or "") or facts.licence(source),
                made_with=made_with or "strata models add",
            ),
            files={},
        )
    except ValidationError as error:
        raise RefusedError(f"{source.path}: {first_fault(error)}") from error
    write_sentence_files(folder, manifest, sentence)
    for name in _TEXTS:
        path = source.file(name, JSON_LIMIT)
        if path is not None:
            shutil.copyfile(path, folder / name)
    finished = finish_bundle(folder, manifest, watch)
    try:
        Bundle.open(folder, watch=watch)  # what is written must be what the server accepts
    except BundleError as error:
        raise RefusedError(f"{source.path}: makes a bundle that cannot be served: {error}") from error
    return finished


def _copy_texts(encoder: Source, folder: Path, config: dict[str, object], architecture: Architecture) -> None:
    """Put config and tokenizer into ``folder``."""
    config.pop("auto_map", None)  # names code to load; nothing here ever does
    write_json(folder / "config.json", config)
    copy_tokenizer(encoder, folder, architecture)


def _copy_bundle(source: Source, folder: Path, overrides: Overrides, watch: Watch) -> Manifest:
    """Copy a bundle that is sound. Only its name may change: the rest it says of itself, measured or trained."""
    if overrides != Overrides(name=overrides.name):
        raise RefusedError(
            f"{source.path}: is a bundle, and its manifest says it all; only --name can be given with it"
        )
    try:
        manifest = Bundle.open(source.path, watch=watch).manifest
        for name in manifest.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source.path / name, folder / name)
            watch((folder / name).stat().st_size)
        # Graphs belong to the Strata that runs them, so they are written anew like those of any other import.
        finished = finish_bundle(folder, manifest.model_copy(update={"name": overrides.name or manifest.name}), watch)
        Bundle.open(folder, watch=watch)
    except ValidationError as error:
        raise RefusedError(f"{source.path}: {first_fault(error)}") from error
    except BundleError as error:
        raise RefusedError(str(error)) from error
    return finished


def _exits(architecture: Architecture, overrides: Overrides) -> tuple[tuple[int, ...], ExitNorm]:
    layers = architecture.layers
    exits = tuple(sorted({*(overrides.exits or ()), layers}))
    if exits[0] < 1 or exits[-1] > layers:
        given = ",".join(map(str, overrides.exits or ()))
        raise RefusedError(f"--exits {given}: this encoder has layers 1 to {layers}")
    if architecture.pre_norm and len(exits) > 1 and overrides.exit_norm is None:
        raise RefusedError(
            f"{architecture.family} has a final norm, and its early exits may have been trained with or without it; "
            "say which with --exit-norm: 'none' for models trained on hidden_states (Matryoshka2dLoss and "
            "AdaptiveLayerLoss of sentence-transformers), 'final' for models trained by cutting the list of layers"
        )
    return exits, overrides.exit_norm or "none"


def _pooling(sentence: SentenceConfig, source: Source) -> Pooling:
    if sentence.pooling is None:
        raise RefusedError(
            f"{source.path}: has no modules.json to say how vectors are pooled; give --pooling mean or cls"
        )
    return sentence.pooling


def _dims(config: dict[str, object], sentence: SentenceConfig, overrides: Overrides, full_dim: int) -> tuple[int, ...]:
    given, where = overrides.dims, "--dims"
    if given is None:
        where = "config.json: matryoshka_dimensions"
        listed = config.get("matryoshka_dimensions") or ()
        if not isinstance(listed, list | tuple) or not all(isinstance(dim, int) for dim in listed):
            raise RefusedError(f"config.json: matryoshka_dimensions {listed!r} is not a list of lengths")
        given = tuple(listed)
        if not given and sentence.truncate_dim:
            logger.warning(
                "config_sentence_transformers.json cuts vectors to %s, but does not say which lengths were trained; "
                "only %s is taken as trained. Give the others with --dims.",
                sentence.truncate_dim,
                full_dim,
            )
    dims = tuple(sorted({*given, full_dim}))
    if dims[0] < 1 or dims[-1] > full_dim:
        told = ",".join(map(str, given))
        raise RefusedError(f"{where} {told}: vectors of this model have 1 to {full_dim} elements")
    return dims


def _write_heads(
    source: Source, sentence: SentenceConfig, folder: Path, architecture: Architecture, exits: tuple[int, ...]
) -> Heads:
    heads = write_heads(source, folder, architecture)
    if sentence.dense is None:
        return heads
    if heads.exits:
        raise RefusedError(f"{source.path}: has both heads.safetensors and a Dense module; one of them must go")
    if len(exits) > 1:
        raise RefusedError(
            f"{sentence.dense.path}: a Dense module belongs to the last layer, so earlier exits would have no head. "
            "Import full depth alone, or remove the module if the exits were trained without it"
        )
    return write_dense(sentence.dense, folder, architecture)


def _max_tokens(sentence: SentenceConfig, config: dict[str, object], overrides: Overrides, folder: Path) -> int:
    """The longest input: what was asked for, else what the source says, never more than there are positions.

    ``folder`` holds the tokenizer. Raises RefusedError, also where nothing of a text would be left.
    """
    found = _told_tokens(sentence, config, overrides)
    if found <= (special := special_tokens(folder)):
        raise RefusedError(
            f"an input of {found} tokens holds nothing of a text: the tokenizer adds {special} of its own; give "
            f"--max-tokens {special + 1} or more"
        )
    return found


def _told_tokens(sentence: SentenceConfig, config: dict[str, object], overrides: Overrides) -> int:
    bound = most_tokens(config)
    if overrides.max_tokens is not None:
        if bound is not None and overrides.max_tokens > bound:
            raise RefusedError(f"--max-tokens {overrides.max_tokens}: this encoder has {bound} positions")
        return overrides.max_tokens
    said = sentence.max_tokens or tokenizer_limit(sentence.encoder)
    known = [limit for limit in (said, bound) if limit is not None]
    if not known:
        raise RefusedError("the folder does not say how long an input may be; give --max-tokens")
    return min(known)
