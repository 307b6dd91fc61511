"""What is measured is what is served: the same prompts, case and length, by whichever library."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from strata.app.tokenizer import Encode, Tokenizer
from strata.loadtest.profile.engine_encoder import EngineEncoder
from strata.model_store.bundle.bundle import Bundle, read_tokenizer
from strata.model_store.encoding.reference import Vectors, unit
from strata.model_store.importing import import_model
from strata.model_store.profiling.encoders import ModelEncoder, SourceEncoder
from tests.model_store.folders import edit_json
from tests.tiny_models import TinyFamily, texts, tiny_sentence_model

CPU = torch.device("cpu")
TEXTS = texts(4, seed=3)
CASED = {
    "type": "BertNormalizer",
    "clean_text": True,
    "handle_chinese_chars": True,
    "strip_accents": None,
    "lowercase": False,
}
PROMPTS = [
    ({"query": "the river ", "passage": "a harbour "}, None),
    ({"search_query": "the river ", "corpus": "a harbour "}, None),
    ({"title": "an island "}, "title"),  # for queries and documents, too
    ({"query": "", "title": "an island "}, "title"),  # but not for queries, which are to have none
]


def vectors(encoder: SourceEncoder | ModelEncoder | EngineEncoder, given: list[str] = TEXTS) -> dict[object, Vectors]:
    """Unit vectors at full depth, by role."""
    layers = encoder.layers
    return {role: unit(encoder.encode(given, (layers,), role)[layers], 32) for role in ("query", "document", None)}


@pytest.mark.parametrize(("prompts", "default"), PROMPTS)
def test_the_original_has_its_own_prompts_and_no_others(
    tmp_path: Path, prompts: Mapping[str, str], default: str | None
) -> None:
    base = tiny_sentence_model(tmp_path / "base", "bert", layers=2)
    edit_json(base / "config_sentence_transformers.json", prompts=prompts, default_prompt_name=default)
    import_model(base, tmp_path / "bundle")
    source = SourceEncoder(base, CPU)
    theirs, ours = vectors(source), vectors(ModelEncoder(tmp_path / "bundle", CPU))
    source.close()
    for role, found in theirs.items():
        np.testing.assert_allclose(found, ours[role], atol=1e-5, err_msg=str(role))
    plain = SentenceTransformer(str(base), device="cpu").encode(TEXTS, prompt="")
    assert any(not np.allclose(found, plain, atol=1e-3) for found in theirs.values()), "prompts shape vectors"


@pytest.mark.parametrize(("family", "length"), [("bert", 160), ("roberta", None)])  # 34 by its library, which has 32
def test_texts_longer_than_the_originals_positions_are_cut_as_an_import_cuts_them(
    tmp_path: Path, family: TinyFamily, length: int | None
) -> None:
    base = tiny_sentence_model(tmp_path / "base", family, layers=2, max_position_embeddings=34)
    edit_json(base / "sentence_bert_config.json", max_seq_length=length)
    import_model(base, tmp_path / "bundle")
    source, long = SourceEncoder(base, CPU), [" ".join(TEXTS)]
    theirs, ours = vectors(source, long), vectors(ModelEncoder(tmp_path / "bundle", CPU), long)
    source.close()
    np.testing.assert_allclose(theirs[None], ours[None], atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
def test_words_are_lower_cased_and_special_tokens_are_not(tmp_path: Path, family: TinyFamily) -> None:
    base = tiny_sentence_model(tmp_path / "base", family, layers=1)
    if family == "bert":
        edit_json(base / "tokenizer.json", normalizer={**CASED})
    edit_json(base / "sentence_bert_config.json", do_lower_case=True)
    manifest = import_model(base, tmp_path / "bundle")
    text, lower = "The OLD River [MASK] ΟΔΟΣ", "the old river [MASK] οδοσ"  # letter by letter: no final sigma
    if family != "bert":
        lower = lower.lower()  # no special token there
    served = Tokenizer(tmp_path / "bundle", manifest, workers=1, default_prompt_name=None)
    found = asyncio.run(served.encode([text], Encode(truncate=True)))
    served.close()
    plain = read_tokenizer(tmp_path / "bundle")
    assert found[0].tolist() == plain.encode(lower).ids != plain.encode(text).ids
    reference = ModelEncoder(tmp_path / "bundle", CPU).reference
    assert reference.tokenizer(text)["input_ids"] == found[0].tolist()


def test_the_engine_lowers_the_prompts_case_too(tmp_path: Path) -> None:
    base = tiny_sentence_model(tmp_path / "base", "roberta", layers=2, prompts={"query": "The OLD River "})
    edit_json(base / "sentence_bert_config.json", do_lower_case=True)
    import_model(base, tmp_path / "bundle")
    engine = vectors(EngineEncoder(Bundle.open(tmp_path / "bundle"), "float32"))
    np.testing.assert_allclose(engine["query"], vectors(ModelEncoder(tmp_path / "bundle", CPU))["query"], atol=1e-4)
