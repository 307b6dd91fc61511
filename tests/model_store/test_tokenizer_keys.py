"""The ids of an imported model are those transformers gives for its folder, whatever tokenizer_config.json adds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from strata.model_store.bundle.bundle import read_tokenizer
from strata.model_store.importing import Overrides, RefusedError, import_model
from tests.model_store.folders import edit_json
from tests.tiny_models import TinyFamily, tiny_encoder

TEXTS = [
    "Café NAÏVE River",
    " river  [MASK] <mask> bridge",
    "北京 river 火车 Tokyo",
    "don't\tstop\u00a0at the harbour\u200b!",
    "e\u0301galite\u0301 Ünïcode",
    "",
]
BERTS: list[tuple[TinyFamily, str]] = [("bert", "BertTokenizerFast"), ("distilbert", "DistilBertTokenizer")]
KEYS: list[tuple[TinyFamily, str, Mapping[str, object]]] = [
    *(
        (family, kind, keys)
        for family, kind in BERTS
        for keys in (
            {"do_lower_case": False},
            {"do_lower_case": True},
            {"strip_accents": False},
            {"do_lower_case": False, "strip_accents": True},
            {"tokenize_chinese_chars": False},
        )
    ),
    ("mpnet", "MPNetTokenizer", {"do_lower_case": False}),
    ("roberta", "RobertaTokenizer", {"add_prefix_space": True}),
    ("roberta", "RobertaTokenizerFast", {"add_prefix_space": False, "trim_offsets": False}),
    ("roberta", "RobertaTokenizer", {"mask_token": {"content": "<mask>", "lstrip": False, "__type": "AddedToken"}}),
    ("xlm-roberta", "XLMRobertaTokenizer", {"add_prefix_space": False}),
    ("modernbert", "PreTrainedTokenizerFast", {"add_prefix_space": True}),
    ("modernbert", "SomebodysTokenizer", {}),
    ("bert", "PreTrainedTokenizerFast", {"do_lower_case": False}),
    ("bert", "BertTokenizer", {"additional_special_tokens": ["river"]}),
    ("bert", "BertTokenizer", {"extra_special_tokens": {"place_token": "bridge"}}),
    (
        "bert",
        "BertTokenizer",
        {"added_tokens_decoder": {"60": {"content": "harbour", "single_word": True, "special": False}}},
    ),
]  # fmt: skip


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain folder of each family."""
    root = tmp_path_factory.mktemp("families")
    for family in {family for family, _, _ in KEYS}:
        tiny_encoder(root / family, family, layers=1, vocab_size=512)  # rows to spare for added tokens
    return root


@pytest.mark.parametrize(("family", "kind", "keys"), KEYS)
def test_ids_are_transformers_own(
    families: Path, tmp_path: Path, family: TinyFamily, kind: str, keys: Mapping[str, object]
) -> None:
    source = tmp_path / "model"
    source.mkdir()
    for path in (families / family).iterdir():
        (source / path.name).write_bytes(path.read_bytes())
    edit_json(source / "tokenizer_config.json", tokenizer_class=kind, **keys)
    import_model(source, tmp_path / "bundle", overrides=Overrides(pooling="mean"))
    ours = read_tokenizer(tmp_path / "bundle")
    for folder in (source, tmp_path / "bundle"):
        theirs = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        for text in TEXTS:
            assert ours.encode(text).ids == theirs(text)["input_ids"]


def test_a_tokenizer_that_says_nothing_else_is_kept_to_the_byte(bert_source: Path, tmp_path: Path) -> None:
    import_model(bert_source, tmp_path / "bundle")
    kept = (tmp_path / "bundle" / "tokenizer.json").read_bytes()
    assert kept == (bert_source / "tokenizer.json").read_bytes()


def test_what_tokenizer_json_cannot_hold_is_refused_or_said(
    source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    edit_json(source / "tokenizer_config.json", truncation_side="left")
    import_model(source, tmp_path / "bundle")
    assert "truncation_side is 'left'; long texts are cut at their end" in caplog.text
    edit_json(source / "tokenizer_config.json", split_special_tokens=True)
    with pytest.raises(RefusedError, match="split_special_tokens is set"):
        import_model(source, tmp_path / "other")
