"""Words that are looked up have the tokens that the tokenizer gives them, whatever stands around them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from strata.app import word_ids
from strata.app.word_ids import WordIds
from strata.model_store.bundle import registry
from strata.model_store.bundle.bundle import read_tokenizer
from tests.tiny_models import TinyFamily, tiny_tokenizer

RUST = read_tokenizer(registry.find(registry.DEFAULT))
WORDS = WordIds(RUST)  # one for all examples: most of their words are known after a while

ANY = st.text() | st.text(st.characters(max_codepoint=127)) | st.text(st.sampled_from("aB1 _-'[]\t\n\x0b\x00é\u0301"))
SPOKEN = st.lists(
    st.sampled_from(
        [
            "The",
            "unaffable",
            "naïve",
            "don't",
            "e-mail",
            "x_1",
            "3.14",
            "[MASK]",
            "[mask]",
            "[",
            "river,",
            "(e.g.,",
            "a\nb",
            "a\x1cb",
            "a\u00a0b",
            "  ",
            "\n",
            "北京",
            "\u201cso\u201d",
            "it\u2019s",
            "\u2026",
            "\u2013",
            "\u2014",
            "\u2010",
            "\u2022",
            "\u2016",
        ]
    )
    | st.text(max_size=5)
    | st.integers().map(str)
    | st.sampled_from("az").map(lambda letter: letter * 120),
    max_size=30,
).map(" ".join)


@given(ANY | SPOKEN)
def test_looked_up_is_as_taken_apart(text: str) -> None:
    found = WORDS.ids(text)
    assert found is None or found.tolist() == RUST.encode(text).ids


def test_a_sentence_is_looked_up_and_what_is_not_plain_or_spells_a_special_token_is_not() -> None:
    assert WORDS.ids("A first text, and a second one!") is not None
    assert WORDS.ids("[CLS] or [sep]") is None
    assert WORDS.ids("caf\u00e9") is None
    assert WORDS.ids("a\x00b") is None
    assert WORDS.ids("word " * 1000) is None
    assert WORDS.ids("q" * 33) is None


def test_a_text_of_many_new_words_is_left_to_the_tokenizer_until_they_are_known() -> None:
    words = WordIds(RUST)
    text = " ".join(f"q{number:x}zz" for number in range(500))  # taken apart here they would hold the loop for 1 ms
    asked = 0
    while (found := words.ids(text)) is None:
        asked += 1
    assert asked == len(text.replace(" ", "")) // word_ids._MOST_NEW
    assert found.tolist() == RUST.encode(text).ids


def test_no_more_words_are_kept_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_ids, "_MOST_KNOWN", 20)
    words = WordIds(RUST)
    for number in range(100):
        text = f"the {number} of {number + 1} and {'q' * 30}"
        found = words.ids(text)
        assert found is not None
        assert found.tolist() == RUST.encode(text).ids
        assert len(words._known) <= 20


@pytest.mark.parametrize("lowercase", [True, False])
def test_case_counts_where_the_tokenizer_tells_it_apart(lowercase: bool) -> None:
    rust = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "A": 2, "##b": 3}, unk_token="[UNK]"))
    rust.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found = WordIds(rust).ids("A Ab ab")
    assert found is not None
    assert found.tolist() == rust.encode("A Ab ab").ids == ([1, 1, 3, 1, 3] if lowercase else [2, 2, 3, 1, 3])


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta"])
def test_tokenizers_that_do_not_go_by_words_are_always_asked(family: TinyFamily) -> None:
    assert WordIds(tiny_tokenizer(family).backend_tokenizer).ids("the river") is None
