"""Token ids of words that were seen before: texts repeat their words, and looking one up takes no tokenizer.

A tokenizer of BERT's kind parts a text into words, and a word's tokens do not depend on the words around it. Looked up
so, a sentence takes 5 us instead of 38. Whatever is not plain English, or long, is left to the tokenizer itself.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MOST_WORDS = 20_000  # kept; nearly all that a language uses. Then it begins anew
_LONGEST_WORD = 32  # characters; what is longer is hardly a word that comes again
_LONGEST_TEXT = 4000  # characters: a look-up holds the interpreter, the tokenizer does not
_MOST_MARKS = 16
# Of other characters some vanish, some become others, and some are words by themselves.
_PLAIN = re.compile(r"[ -~\t\n\r\u2010-\u2027]*")  # the last: dashes, quotes and dots of print
_WORDS = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~\u2010-\u2027]")

Ids = tuple[int, ...]


class WordIds:
    """Looks the words of a text up, and has the tokenizer take apart those it does not know."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[str, Ids] = {}
        kinds = (tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.model)
        self._by_words = [type(kind).__name__ for kind in kinds] == ["BertNormalizer", "BertPreTokenizer", "WordPiece"]
        if not self._by_words:
            return
        self._lowercase: bool = tokenizer.normalizer.lowercase
        # Special tokens that a text may spell out; they are found before its words are.
        marks = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        marks |= {tokenizer.normalizer.normalize_str(mark) for mark in marks}
        self._marks = tuple({mark.lower() for mark in marks})
        whole, bare = (tokenizer.encode("a", add_special_tokens=special).ids for special in (True, False))
        at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), None)
        self._by_words = at is not None and bool(bare) and "" not in self._marks and len(marks) <= _MOST_MARKS
        self._head, self._tail = whole[: at or 0], whole[(at or 0) + len(bare) :]

    def ids(self, text: str) -> list[int] | None:
        """The ids of a text, special tokens included; None where the tokenizer must be asked."""
        if not self._by_words or len(text) > _LONGEST_TEXT or not _PLAIN.fullmatch(text):
            return None
        lower = text.lower()
        for mark in self._marks:
            if mark in lower:
                return None
        words, known = _WORDS.findall(lower if self._lowercase else text), self._known
        try:
            found = list(map(known.__getitem__, words))
        except KeyError:
            new = self._taken_apart([word for word in dict.fromkeys(words) if word not in known])
            found = [known.get(word) or new[word] for word in words]
        return [*self._head, *chain.from_iterable(found), *self._tail]

    def _taken_apart(self, words: list[str]) -> dict[str, Ids]:
        """The ids of words that are not known; those that may come again are known from now on."""
        encoding = self._tokenizer.encode(words, is_pretokenized=True, add_special_tokens=False)
        pieces: list[list[int]] = [[] for _ in words]
        places = cast(list[int], encoding.word_ids)  # None is for special tokens
        for word, piece in zip(places, encoding.ids, strict=True):
            pieces[word].append(piece)
        found = dict(zip(words, map(tuple, pieces), strict=True))
        kept = {word: ids for word, ids in found.items() if len(word) <= _LONGEST_WORD}
        if len(self._known) + len(kept) > _MOST_WORDS:
            self._known = kept
        else:
            self._known.update(kept)
        return found
