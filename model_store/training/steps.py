"""Steps made ahead: texts drawn, tokenized and packed, in other processes where a GPU would wait for them."""

from __future__ import annotations

import ctypes
import heapq
import itertools
import os
import pickle
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from strata.model_store.encoding.buckets import buckets
from strata.model_store.encoding.tokens import tokenize
from strata.model_store.training.draws import Draws
from strata.model_store.training.packing import Packed, pack

_BIN = 512  # tokens of a bin where a step is one batch
_SLACK = 1.02  # room in the bins, so that all rows find theirs
_AS_ATTENTION = 540  # tokens of a row whose attention takes as long as all else; gte-small, on a CPU
_CHUNK = 32  # texts tokenized at once
_SHARES = 2  # micro-batches of a lane, where rows are padded and no two batches take the same time
_AHEAD = 4  # steps that each process makes ahead
_PARENTS_END = 1  # prctl's PR_SET_PDEATHSIG


@dataclass(frozen=True)
class Layout:
    """How a step's rows are packed: in one batch of bins, or in micro-batches for ``lanes``; ``side_by_side``: of rows
    of any length, else of near-equal length, since the encoder pads them."""

    one_batch: bool
    side_by_side: bool
    lanes: int
    lane_tokens: int  # of a micro-batch, at most


class Steps(Dataset[bytes]):
    """The packed rows of each step, by its number."""

    def __init__(self, draws: Draws, tokenizer: Any, layout: Layout) -> None:
        self._draws, self._tokenizer, self._layout = draws, tokenizer, layout
        self._pad_id = int(tokenizer.pad_token_id or 0)

    def __getitem__(self, step: int) -> bytes:
        """Pickled: a tensor sent to another process by torch's own way takes shared memory, which may be scarce."""
        return pickle.dumps(self.packed(step))

    def packed(self, step: int) -> list[Packed]:
        """The batches of one step."""
        recipe = self._draws.recipe
        texts, rows, tokens = self._draws.texts(step), [], 0
        while tokens < recipe.step_tokens and (some := list(itertools.islice(texts, _CHUNK))):
            rows += tokenize(self._tokenizer, some, recipe.max_tokens)
            tokens = sum(map(len, rows))
        if len(rows) < 2:
            raise ValueError("a step needs at least two texts: the objective compares them with one another")
        while len(rows) > 2 and tokens > recipe.step_tokens:  # the last chunk went too far
            tokens -= len(rows.pop())
        if self._layout.one_batch:
            width = max(_BIN, recipe.max_tokens)
            return [pack(rows, max(1, round(recipe.step_tokens * _SLACK / width)), width, self._pad_id)]
        groups = self._groups([len(row) for row in rows])
        batches = [[rows[i] for i in group] for group in groups]
        return [pack(batch, 1, sum(map(len, batch)), self._pad_id) for batch in batches]

    def _groups(self, lengths: Sequence[int]) -> list[list[int]]:
        lanes, most, tokens = self._layout.lanes, self._layout.lane_tokens, sum(lengths)
        if self._layout.side_by_side:  # as many for every lane: none waits while another runs its last
            return even_groups(lengths, lanes * -(-tokens // (lanes * most)))
        return buckets(lengths, min(max(lengths) + tokens // (_SHARES * lanes), most))

    def ahead(self, numbers: Sequence[int], workers: int) -> Iterator[list[Packed]]:
        """The steps of ``numbers`` in their order, made by ``workers`` processes (0: by this one, when asked)."""
        loader: DataLoader[bytes] = DataLoader(
            self,
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            collate_fn=_as_is,
            worker_init_fn=_quiet_worker,
            prefetch_factor=_AHEAD if workers else None,
        )
        return map(pickle.loads, loader)


def even_groups(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Rows in at most ``count`` groups that take nearly the same time."""
    groups: list[list[int]] = [[] for _ in range(count)]
    room = [(0.0, at) for at in range(len(groups))]
    for row in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        load, at = heapq.heappop(room)
        groups[at].append(row)
        heapq.heappush(room, (load + lengths[row] * (1 + lengths[row] / _AS_ATTENTION), at))
    return [group for group in groups if group]


def _as_is(made: Any) -> Any:
    return made


def _quiet_worker(_: int) -> None:
    """One thread; an interrupt is the parent's to handle, and its end is this process's.

    Else one that waits to hand over a step would wait for ever where the parent was killed, and hold a GPU's memory
    with the descriptors that it inherited.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(AttributeError, OSError, TypeError):  # another system
        ctypes.CDLL(None).prctl(_PARENTS_END, signal.SIGKILL)
