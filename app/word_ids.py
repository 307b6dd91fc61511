"""Token ids of words that were seen before: texts repeat their words, and looking one up takes no tokenizer.

A tokenizer of BERT's kind parts a text at its spaces, and what stands between two of them has the same tokens whatever
stands around it. Looked up so, a sentence takes 3 us instead of 38. Whatever is not plain English, or long, is left to
the tokenizer itself.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING

import numpy as np

from strata.app.engine.batch import TokenIds

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_MOST_KNOWN = 50_000  # words, alone and with the marks around them; 6 MB, 17 at most. Then it begins anew
_LONGEST_WORD = 32  # characters; what is longer is hardly a word that comes again, and takes long to take apart
_LONGEST_TEXT = 4000  # characters: a look-up holds the interpreter, the tokenizer does not
_MOST_NEW = 500  # characters of a text that are taken apart here: they may take more than 1 us each
_MOST_MARKS = 16
# Of other characters some vanish, some become others, and some are words by themselves.
_PLAIN = re.compile(r"[ -~\t\n\r\u2010-\u2027]*")  # the last: dashes, quotes and dots of print
_WORDS = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~\u2010-\u2027]")


class WordIds:
    """Looks up what stands between two spaces of a text, and takes apart what it does not know.

    Ids are kept as the bytes of an int32 array: those of a text are joined, not counted out.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._known: dict[str, bytes] = {}
        model = tokenizer.model
        kinds = (tokenizer.normalizer, tokenizer.pre_tokenizer, model)
        self._by_words = [type(kind).__name__ for kind in kinds] == ["BertNormalizer", "BertPreTokenizer", "WordPiece"]
        if not self._by_words:
            return
        self._lowercase: bool = tokenizer.normalizer.lowercase
        self._pieces: dict[str, int] = tokenizer.get_vocab(with_added_tokens=False)
        self._unknown = self._pieces.get(model.unk_token)
        self._inside: str = model.continuing_subword_prefix
        self._longest = max(map(len, self._pieces))
        # Special tokens that a text may spell out; they are found before its words are.
        marks = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
        marks |= {tokenizer.normalizer.normalize_str(mark) for mark in marks}
        self._marks = tuple({mark.lower() for mark in marks})
        whole, bare = (tokenizer.encode("a", add_special_tokens=special).ids for special in (True, False))
        at = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), None)
        odd = any(not mark or " " in mark for mark in self._marks) or len(marks) > _MOST_MARKS
        odd = odd or model.max_input_chars_per_word < _LONGEST_WORD
        self._by_words = at is not None and bool(bare) and self._unknown is not None and not odd
        self._head, self._tail = _packed(whole[: at or 0]), _packed(whole[(at or 0) + len(bare) :])

    def ids(self, text: str) -> TokenIds | None:
        """The ids of a text, special tokens included; None where the tokenizer must be asked."""
        if not self._by_words or len(text) > _LONGEST_TEXT:
            return None
        parts, known = text.split(" "), self._known
        try:
            found = b"".join(map(known.__getitem__, parts))
        except KeyError:
            pieces, new = [], 0
            for part in parts:
                ids = known.get(part)
                if ids is None:
                    new += len(part)
                    if new > _MOST_NEW or (ids := self._taken_apart(part)) is None:
                        return None
                pieces.append(ids)
            found = b"".join(pieces)
        return np.frombuffer(self._head + found + self._tail, np.int32)

    def _taken_apart(self, part: str) -> bytes | None:
        """The ids of what is not known; if it may come again, it is known from now on.

        None where it is not plain, holds a long word, or may spell a special token out.
        """
        lower = part.lower()
        if not _PLAIN.fullmatch(part):
            return None
        for mark in self._marks:
            if mark in lower:
                return None
        ids: list[int] = []
        for word in _WORDS.findall(lower if self._lowercase else part):
            if len(word) > _LONGEST_WORD:
                return None
            whole = self._pieces.get(word)
            ids += self._in_pieces(word) if whole is None else (whole,)
        found = _packed(ids)
        if len(part) <= _LONGEST_WORD:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[part] = found
        return found

    def _in_pieces(self, word: str) -> list[int]:
        """The longest piece of the vocabulary that a word begins with, then the longest that goes on from there."""
        assert self._unknown is not None  # without one nothing is looked up
        found, start, before = [], 0, ""
        while start < len(word):
            for end in range(min(len(word), start + self._longest), start, -1):
                piece = self._pieces.get(before + word[start:end])
                if piece is not None:
                    break
            else:
                return [self._unknown]
            found.append(piece)
            start, before = end, self._inside
        return found


def _packed(ids: list[int]) -> bytes:
    return array("i", ids).tobytes()
