"""From text to token ids, with the bundle's own tokenizer: prompts, truncation, and token ids given as such."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal, TypeVar, cast

import numpy as np

from strata.app.engine.batch import TokenIds
from strata.app.word_ids import WordIds
from strata.model_store.bundle.bundle import check_vocabulary, read_tokenizer
from strata.model_store.bundle.manifest import Manifest
from strata.model_store.bundle.prompts import InputType, prompt_for

# Most cores belong to the engine: how many threads tokenize is said here, never by a pool as wide as the machine.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tokenizers import Encoding

FEW_THREADS, MANY_THREADS = 2, 8  # by default: where no core is free, and where many are
Direction = Literal["Right", "Left"]
Result = TypeVar("Result")

# Tokenizing takes up to 1 us a character. A hop to a thread and back costs the event loop 40 us more and, with a busy
# loop, a wait for the interpreter lock on the way back; so up to this many characters (1 ms at most) stay in the loop.
_INLINE_CHARACTERS = 1000
# Looking words up takes a fiftieth of that, and holds the interpreter wherever it is done: it is never worth a thread.
_LOOK_UP_S = 0.0005  # of looking up, after which the loop sees to other requests
_CALL_CHARACTERS = 50_000  # of one call of the tokenizer, which keeps much more of each token than its id
_PART_CHARACTERS = 8000  # of a request, that are worth a thread of their own
# A text is cut here before it is tokenized, if it may be cut at all: no tokenizer makes 250 characters one token on
# the length of a whole text, and a hostile megabyte is not worth a second (text-embeddings-inference does the same).
_CHARACTERS_PER_TOKEN = 250
_CHARACTER_S = 1e-6  # seconds a character, until it has been measured
_NEWEST = 0.1  # weight of the newest measurement in the mean
_MOST_SIDE_WORK = 64  # requests to describe or decode that wait; each may take a second
_OTHER_VOCABULARY = (
    "`{field}`: token ids must be between 0 and {last}, of this model's own vocabulary. Given: {wrong}. LangChain's "
    "OpenAI client sends those of another one, unless it is made with check_embedding_ctx_length=False"
)


class TokenizerBusy(Exception):  # noqa: N818 - reads as what happened
    """Too much waits to be described or decoded; the message says how much."""


class TextRefused(ValueError):  # noqa: N818 - reads as what happened
    """An input that cannot be turned into tokens; ``field`` names what to change."""

    def __init__(self, field: str, message: str, *, empty: bool = False) -> None:
        super().__init__(message)
        self.field = field
        self.empty = empty


class TokenizedLate(Exception):  # noqa: N818 - reads as what happened
    """The tokenizer would be done ``late_s`` seconds after the time allowed.

    ``alone_s``: seconds that it takes with nothing else to do.
    """

    def __init__(self, late_s: float, alone_s: float) -> None:
        super().__init__(f"the texts would be tokenized about {1000 * late_s:.0f} ms too late")
        self.late_s = late_s
        self.alone_s = alone_s


@dataclass(slots=True)
class Encode:
    """How the texts of one request become tokens. ``field`` is what the protocol calls them."""

    truncate: bool
    direction: Direction = "Right"
    prompt_name: str | None = None
    field: str = "inputs"
    cut: int = 0  # texts that were cut; counted while they are tokenized

    def place(self, index: int, count: int) -> str:
        """What the protocol calls the text at ``index`` of ``count``, as `inputs[3]`."""
        return f"{self.field}[{index}]" if count > 1 else self.field

    def cut_to(self, limit: int, size: int, place: str) -> None:
        """Count that the text at ``place``, of ``size`` tokens, is cut. Raises TextRefused where it must not be."""
        if not self.truncate:
            raise TextRefused(self.field, f"`{place}` must have less than {limit} tokens. Given: {size}")
        self.cut += 1


@dataclass(slots=True, frozen=True)
class Token:
    """One token of a text; ``start`` and ``stop`` are UTF-8 byte offsets, None for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class Tokenizer:
    """The tokenizer of a bundle. Short work is done at once, long work in ``workers`` threads.

    Texts to embed do not wait for what is only described or decoded: that has a thread of its own, and a bounded queue.
    """

    def __init__(self, bundle: Path, manifest: Manifest, *, workers: int, default_prompt_name: str | None) -> None:
        self._rust = read_tokenizer(bundle, lowercase=manifest.lowercase)
        check_vocabulary(bundle, self._rust, manifest)
        self._words = WordIds(self._rust)
        self._vocabulary = manifest.architecture.vocab_size
        self.max_tokens = manifest.max_tokens
        self.prompts: Mapping[str, str] = manifest.prompts
        self._default_prompt_name = default_prompt_name or manifest.default_prompt
        self._prompt(self._default_prompt_name)
        special = self._rust.encode("a").special_tokens_mask
        self._head = next((i for i, mark in enumerate(special) if not mark), 0)  # special tokens before the text
        self._tail = next((i for i, mark in enumerate(reversed(special)) if not mark), 0)  # and after it
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="tokenize")
        self.workers = workers
        self._characters = 0  # handed to these threads and not done
        self._character_s = _CHARACTER_S
        self._side_thread = ThreadPoolExecutor(1, thread_name_prefix="describe")
        self._side_work = 0  # requests handed to it and not done
        self.backlog = 0  # requests handed to any thread and not done

    def use_threads(self, workers: int) -> None:
        """Tokenize in ``workers`` threads from now on; the threads before finish what they have in hand."""
        before, self._threads = self._threads, ThreadPoolExecutor(workers, thread_name_prefix="tokenize")
        self.workers = workers
        before.shutdown(wait=False)

    async def encode(
        self,
        inputs: Sequence[str] | Sequence[list[int]],
        how: Encode,
        input_type: InputType | None = None,
        *,
        timeout_s: float | None = None,
    ) -> list[TokenIds]:
        """Token ids of every input, [tokens] int32 each, at most ``max_tokens``.

        The prompt is the one named, else the model's own for queries or documents, else the default.

        Raises TextRefused for an input that cannot be used, TokenizedLate where the forecast says that ``timeout_s`` is
        too short, and TimeoutError where it was.
        """
        prompt = self._prompt(how.prompt_name or prompt_for(self.prompts, input_type) or self._default_prompt_name)
        count = len(inputs)
        for index, given in enumerate(inputs):
            if not given:
                raise TextRefused(how.field, f"`{how.place(index, count)}` cannot be empty", empty=True)
        texts = [given for given in inputs if isinstance(given, str)]
        if not texts:
            ids = [given for given in inputs if not isinstance(given, str)]
            self._check_ids(ids, how.field)
            if not prompt:
                return [self._given(row, how.place(index, count), how) for index, row in enumerate(ids)]
            texts = [self._rust.decode(row) for row in ids]
        texts = self._cut(texts, how)
        if prompt:
            texts = [prompt + text for text in texts]
        found = await self._looked_up(texts)
        if rest := [text for text, ids in zip(texts, found, strict=True) if ids is None]:
            others = iter(await self._tokenized(rest, timeout_s))
            found = [next(others) if ids is None else ids for ids in found]
        return [
            ids if 0 < len(ids) <= self.max_tokens else self._fitted(ids, how.place(index, count), how)
            for index, ids in enumerate(cast(list[TokenIds], found))
        ]

    async def _looked_up(self, texts: Sequence[str]) -> list[TokenIds | None]:
        """The ids of every text whose words are known, None for the others; the loop runs now and then in between."""
        found: list[TokenIds | None] = []
        began = time.perf_counter()
        for text in texts:
            found.append(self._words.ids(text))
            if time.perf_counter() - began > _LOOK_UP_S:
                await asyncio.sleep(0)
                began = time.perf_counter()
        return found

    async def _tokenized(self, texts: list[str], timeout_s: float | None) -> list[TokenIds]:
        """The ids of texts, by the tokenizer itself. Raises TokenizedLate and TimeoutError, as `encode` does."""
        size = sum(map(len, texts))
        if size <= _INLINE_CHARACTERS:
            return self._encode(texts)
        if timeout_s is not None and (late_s := self.seconds(size) - timeout_s) > 0:
            raise TokenizedLate(late_s, self._character_s * size)

        def encode(part: list[str]) -> list[TokenIds]:
            began = time.perf_counter()
            found = self._encode(part)
            each = (time.perf_counter() - began) / sum(map(len, part))
            self._character_s += _NEWEST * (each - self._character_s)
            return found

        step = -(-len(texts) // min(self.workers, 1 + size // _PART_CHARACTERS))
        parts = [texts[at : at + step] for at in range(0, len(texts), step)]
        self._characters += size
        self.backlog += 1
        try:
            async with asyncio.timeout(timeout_s):
                run = asyncio.get_running_loop().run_in_executor
                found = await asyncio.gather(*(run(self._threads, encode, part) for part in parts))
        finally:
            self._characters -= size
            self.backlog -= 1
        return [ids for part in found for ids in part]

    def seconds(self, characters: int) -> float:
        """Seconds until ``characters`` more would be tokenized, behind what waits already: a forecast."""
        return self._character_s * (self._characters / self.workers + characters)

    async def tokens(
        self, inputs: Sequence[str], *, add_special_tokens: bool, prompt_name: str | None
    ) -> list[list[Token]]:
        """The tokens of every text, uncut, with where each lies in the text. Raises TextRefused, TokenizerBusy."""
        prompt = self._prompt(prompt_name or self._default_prompt_name)
        texts = [prompt + text for text in inputs]

        def encode() -> list[list[Token]]:
            found = self._rust.encode_batch(texts, add_special_tokens=add_special_tokens)
            return [_described(encoding, text) for encoding, text in zip(found, texts, strict=True)]

        return await self._aside(encode)

    async def decode(self, ids: Sequence[list[int]], *, skip_special_tokens: bool) -> list[str]:
        """The texts of token ids. Raises TextRefused for an id outside the vocabulary, TokenizerBusy."""
        self._check_ids(ids, "ids")

        def decode() -> list[str]:
            return [self._rust.decode(row, skip_special_tokens=skip_special_tokens) for row in ids]

        return await self._aside(decode)

    async def _aside(self, work: Callable[[], Result]) -> Result:
        """Describe or decode in a thread of its own. Raises TokenizerBusy where too many wait for it."""
        if self._side_work >= _MOST_SIDE_WORK:
            raise TokenizerBusy(f"{self._side_work} requests to tokenize or decode wait already")
        self._side_work += 1
        self.backlog += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._side_thread, work)
        finally:
            self._side_work -= 1
            self.backlog -= 1

    def close(self) -> None:
        """Let the threads go."""
        for threads in (self._threads, self._side_thread):
            threads.shutdown(wait=False, cancel_futures=True)

    def _cut(self, texts: list[str], how: Encode) -> list[str]:
        """The texts, shortened to characters that could still be among the first, or last, ``max_tokens``."""
        limit = self.max_tokens * _CHARACTERS_PER_TOKEN
        if not how.truncate or all(len(text) <= limit for text in texts):
            return texts
        return [text[:limit] if how.direction == "Right" else text[-limit:] for text in texts]

    def _encode(self, texts: list[str]) -> list[TokenIds]:
        found: list[TokenIds] = []
        step = 1 + len(texts) * _CALL_CHARACTERS // (1 + sum(map(len, texts)))
        for at in range(0, len(texts), step):
            encoded = self._rust.encode_batch_fast(texts[at : at + step])
            found += [np.array(encoding.ids, np.int32) for encoding in encoded]
        return found

    def _fitted(self, ids: TokenIds, place: str, how: Encode) -> TokenIds:
        """The ids of one text, cut from the side asked for; special tokens stay."""
        limit, size = self.max_tokens, len(ids)
        if size == 0:
            raise TextRefused(how.field, f"`{place}` holds no token of the model's vocabulary")
        how.cut_to(limit, size, place)
        if how.direction == "Right":
            return np.concatenate([ids[: limit - self._tail], ids[size - self._tail :]])
        return np.concatenate([ids[: self._head], ids[size - limit + self._head :]])

    def _given(self, ids: list[int], place: str, how: Encode) -> TokenIds:
        """Token ids are taken as they are: no special token is added, or kept when they are cut."""
        limit, size = self.max_tokens, len(ids)
        if size > limit:
            how.cut_to(limit, size, place)
            ids = ids[:limit] if how.direction == "Right" else ids[-limit:]
        return np.array(ids, dtype=np.int32)

    def _check_ids(self, inputs: Sequence[list[int]], field: str) -> None:
        for ids in inputs:
            if ids and (min(ids) < 0 or max(ids) >= self._vocabulary):
                wrong = next(i for i in ids if not 0 <= i < self._vocabulary)
                last = self._vocabulary - 1
                raise TextRefused(field, _OTHER_VOCABULARY.format(field=field, last=last, wrong=wrong))

    def _prompt(self, name: str | None) -> str:
        if name is None:
            return ""
        if name not in self.prompts:
            known = ", ".join(sorted(self.prompts)) or "none; this model has no prompts"
            raise TextRefused("prompt_name", f"`prompt_name` must be one of: {known}. Given: {name[:100]}")
        return self.prompts[name]


def _described(encoding: Encoding, text: str) -> list[Token]:
    # The tokenizer counts characters, the protocol bytes.
    place = range(len(text) + 1) if text.isascii() else [0, *accumulate(len(c.encode()) for c in text)]
    return [
        Token(id, token, True, None, None) if special else Token(id, text[start:stop], False, place[start], place[stop])
        for id, token, special, (start, stop) in zip(
            encoding.ids, encoding.tokens, encoding.special_tokens_mask, encoding.offsets, strict=True
        )
    ]
