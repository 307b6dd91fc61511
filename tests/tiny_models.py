"""Tiny encoders with random weights, one per family: for tests that need an architecture, not a skill.

Every folder is what transformers or sentence-transformers would have saved, so it also loads there. Weights are drawn
so that each layer changes the vectors a good deal; the seed decides everything.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

TinyFamily = Literal["bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "modernbert"]
FAMILIES: tuple[TinyFamily, ...] = ("bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "modernbert")
Generation = Literal["old", "new"]

MAX_TOKENS = 160
_CORPUS = (
    "the a of and to in is was for on that with as by at from it river mountain city train window garden paper music "
    "engine layer vector depth budget answer question morning winter summer bread coffee doctor teacher student "
    "bridge station market harbour island forest letter number colour silver copper quiet narrow early late running "
    "walking reading writing building opening closing measuring cooking painting travelling small large heavy light "
    "bright dark old new first second third never always often perhaps Paris London Tokyo Nairobi 2024 3.14 don't "
    "isn't café naïve"
)
_WORDS = _CORPUS.split()
_BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_WINDOW = 16  # ModernBERT's local attention, so that texts of tiny tests are longer than it


def texts(count: int, *, seed: int = 0, longest: int = 40) -> list[str]:
    """``count`` texts of 1 to ``longest`` words, the first two as short and as long as can be."""
    draw = random.Random(seed)
    lengths = [1, longest, *(draw.randint(1, longest) for _ in range(count))][:count]
    return [" ".join(draw.choices(_WORDS, k=length)) + draw.choice([".", "?", ""]) for length in lengths]


def tiny_encoder(
    folder: Path,
    family: TinyFamily,
    *,
    layers: int = 4,
    hidden: int = 32,
    heads: int = 4,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    **config: Any,
) -> Path:
    """Save a plain Hugging Face folder (config, safetensors, fast tokenizer) and return it.

    ``config`` overrides fields of the family's configuration, e.g. ``global_attn_every_n_layers=2``.
    """
    tokenizer = tiny_tokenizer(family)
    fields = {**_config(family, layers, hidden, heads, tokenizer), **config}
    encoder = AutoModel.from_config(AutoConfig.for_model(family, **fields))
    _randomise(encoder, seed)
    encoder.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_sentence_model(
    folder: Path,
    family: TinyFamily,
    *,
    pooling: Literal["mean", "cls"] = "mean",
    normalize: bool = True,
    generation: Generation = "new",
    prompts: Mapping[str, str] | None = None,
    dense: int | None = None,
    **encoder: Any,
) -> Path:
    """Save a sentence-transformers folder in one generation of its config and return it.

    ``dense`` adds a Dense module of that output size, with the Identity activation; the rest is for `tiny_encoder`.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer

    plain = tiny_encoder(folder.with_name(folder.name + ".plain"), family, **encoder)
    transformer = Transformer(str(plain), max_seq_length=MAX_TOKENS)
    width = transformer.get_embedding_dimension()
    modules: list[torch.nn.Module] = [transformer, Pooling(width, pooling_mode=pooling)]
    if dense is not None:
        torch.manual_seed(encoder.get("seed", 0))
        modules.append(Dense(width, dense, activation_function=torch.nn.Identity()))
    if normalize:
        modules.append(Normalize())
    model = SentenceTransformer(modules=modules, prompts=dict(prompts or {}), device="cpu")
    model.save(str(folder), create_model_card=False)
    shutil.rmtree(plain)
    if generation == "old":
        _rewrite_as_old(folder, pooling, width)
    return folder


def tiny_tokenizer(family: TinyFamily) -> PreTrainedTokenizerFast:
    """A small fast tokenizer of the kind the family has: WordPiece, byte-level BPE or Unigram."""
    special = _BERT_SPECIAL if family in ("bert", "distilbert", "modernbert") else _ROBERTA_SPECIAL
    if family in ("bert", "distilbert", "mpnet"):
        tokenizer = _word_pieces(special)
    elif family == "xlm-roberta":
        tokenizer = _unigram(special)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=380, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(texts(200, seed=1), trainer)
    return _wrap(tokenizer, family, special)


def _word_pieces(special: list[str]) -> Tokenizer:
    # A vocabulary by hand: the trainers of WordPiece and Unigram break ties differently from run to run.
    letters = sorted({letter for word in _WORDS for letter in word.lower()} | set("!?,'"))
    pieces = [*special, *letters, *("##" + letter for letter in letters), *(w.lower() for w in _WORDS[::2])]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]" if special is _BERT_SPECIAL else "<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def _unigram(special: list[str]) -> Tokenizer:
    letters = sorted({letter for word in _WORDS for letter in word} | set("!?,"))
    scores = [(piece, 0.0) for piece in special]
    scores += [("\u2581", -3.0), *((letter, -6.0) for letter in letters)]
    scores += [("\u2581" + word, -5.0) for word in _WORDS[::2]]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=special.index("<unk>")))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def _wrap(tokenizer: Tokenizer, family: TinyFamily, special: list[str]) -> PreTrainedTokenizerFast:
    first, last = ("[CLS]", "[SEP]") if special is _BERT_SPECIAL else ("<s>", "</s>")
    ids = {token: tokenizer.token_to_id(token) for token in (first, last)}
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} $B {last}", special_tokens=list(ids.items())
    )
    inputs = ["input_ids", "token_type_ids", "attention_mask"] if family == "bert" else ["input_ids", "attention_mask"]
    names = {token.strip("[]<>").lower(): token for token in special}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_TOKENS,
        model_input_names=inputs,
        cls_token=first,
        sep_token=last,
        pad_token=names["pad"],
        unk_token=names["unk"],
        mask_token=names["mask"],
    )


def _config(
    family: TinyFamily, layers: int, hidden: int, heads: int, tokenizer: PreTrainedTokenizerFast
) -> dict[str, Any]:
    common = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, "max_position_embeddings": 512}
    if family == "distilbert":
        sizes = {"n_layers": layers, "dim": hidden, "n_heads": heads, "hidden_dim": 3 * hidden}
    else:
        sizes = {
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "num_attention_heads": heads,
            "intermediate_size": 3 * hidden,
        }
    if family in ("roberta", "xlm-roberta", "mpnet"):
        common["max_position_embeddings"] = 514  # the table's first two rows are never positions
    if family == "modernbert":
        common.update(dict.fromkeys(("bos_token_id", "cls_token_id"), tokenizer.cls_token_id))
        common.update(dict.fromkeys(("eos_token_id", "sep_token_id"), tokenizer.sep_token_id))
        common["local_attention"] = _WINDOW
    return {**common, **sizes}


def _randomise(encoder: torch.nn.Module, seed: int) -> None:
    """Draw weights that keep activations of the order of 1, so that no layer is a mere copy of the one below."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(encoder.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() > 1:
                spread = 1.0 if "embeddings" in name or "relative" in name else 1.2 / parameter.shape[1] ** 0.5
                parameter.copy_(noise * spread)
            else:
                centre = 1.0 if name.endswith("weight") else 0.0  # one-dimensional weights are those of norms
                parameter.copy_(centre + 0.1 * noise)


def _rewrite_as_old(folder: Path, pooling: str, width: int) -> None:
    """Turn the config files into those that sentence-transformers before 5.2 wrote."""
    modules = json.loads((folder / "modules.json").read_text())
    for module in modules:
        module["type"] = "sentence_transformers.models." + module["type"].rsplit(".", 1)[-1]
    write_json(folder / "modules.json", modules)
    old_pooling: dict[str, Any] = {"word_embedding_dimension": width}
    for mode, key in (("cls", "cls_token"), ("mean", "mean_tokens"), ("max", "max_tokens")):
        old_pooling[f"pooling_mode_{key}"] = mode == pooling
    old_pooling["pooling_mode_mean_sqrt_len_tokens"] = False
    write_json(folder / "1_Pooling" / "config.json", old_pooling)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False})


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON, making the folder where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2))


def settle(folder: Path, after: int, change: float) -> Path:
    """Rewrite a tiny BERT so that blocks beyond the first ``after`` only nudge their input, by about ``change``."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    for name, tensor in tensors.items():
        place = re.search(r"layer\.(\d+)\.", name)
        if place is None or int(place[1]) < after:
            continue
        if "LayerNorm" in name:
            tensors[name] = torch.ones_like(tensor) if name.endswith("weight") else torch.zeros_like(tensor)
        elif "output.dense" in name:
            tensors[name] = tensor * change
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def random_heads(exits: Iterable[int], size: int, queries: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Heads with attention queries for each exit, as heads.safetensors holds them."""
    draw = np.random.default_rng(seed)
    shapes = {"queries": (queries, size), "weight": (size, queries * size), "bias": (size,)}
    return {
        f"heads.{e}.{part}": draw.normal(0, 0.3, shape).astype(np.float16)
        for e in exits
        for part, shape in shapes.items()
    }
