"""What the engine is asked on a GPU: batches of short texts, of long ones, of one, at one depth and at many."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np

from strata.app.engine.batch import Batch, Row, TokenIds
from strata.app.engine.encoder import Encoder
from strata.app.engine.wire import decode_batch, encode_batch
from strata.model_store.bundle.bundle import Bundle, read_tokenizer

SHORT, LONG = 28, 207  # tokens a text, on average and exactly


@dataclass(slots=True, frozen=True)
class Corpus:
    """Token ids of real sentences, and texts of the same for whoever tokenizes by itself."""

    short: list[TokenIds]  # of mixed lengths around SHORT
    long: list[TokenIds]
    short_texts: list[str]
    long_texts: list[str]


def corpus(bundle: Bundle, texts: Sequence[str], short: int, long: int) -> Corpus:
    """``short`` short texts and ``long`` long ones, the same at every run."""
    tokenizer = read_tokenizer(bundle.path)
    encoded = [np.array(e.ids, np.int32) for e in tokenizer.encode_batch_fast(list(texts))]
    limit = bundle.manifest.max_tokens
    # Sentences of a manual are longer than what is asked of a server: the shortest, until their mean is SHORT.
    order = sorted(range(len(texts)), key=lambda i: len(encoded[i]))
    most = next(
        (n for n in range(64, len(order)) if np.mean([len(encoded[i]) for i in order[:n]]) >= SHORT), len(order)
    )
    draw = random.Random(1)
    chosen = [order[draw.randrange(most)] for _ in range(short)]
    words = [int(token) for ids in encoded for token in ids[1:-1]]
    body = min(LONG, limit) - 2
    long_ids = []
    for i in range(long):
        begin = i * body % (len(words) - body)
        long_ids.append(np.array([encoded[0][0], *words[begin : begin + body], encoded[0][-1]], np.int32))
    long_texts = tokenizer.decode_batch([ids.tolist() for ids in long_ids], skip_special_tokens=True)
    return Corpus([encoded[i][:limit] for i in chosen], long_ids, [texts[i] for i in chosen], long_texts)


def batch(texts: Sequence[TokenIds], depths: Sequence[int], dim: int) -> Batch:
    """The texts at these depths in turn, as a worker receives them."""
    rows = [Row(ids, depths[i % len(depths)], dim) for i, ids in enumerate(texts)]
    return decode_batch(encode_batch(Batch(rows)))


def seconds(run: Callable[[], object], *, least: int = 5, most: int = 200, budget_s: float = 1.0) -> float:
    """Median of as many runs as fit the budget, after three that do not count."""
    return in_turns({"": run}, least=least, most=most, budget_s=budget_s)[""]


def in_turns(
    runs: Mapping[str, Callable[[], object]], *, least: int = 5, most: int = 200, budget_s: float = 1.0
) -> dict[str, float]:
    """The same of several, one run of each in turn, as a machine's pace changes; the budget is for each."""
    for run in 3 * list(runs.values()):
        run()
    took: dict[str, list[float]] = {name: [] for name in runs}
    end = perf_counter() + budget_s * len(runs)
    for turn in range(most):
        if turn >= least and perf_counter() > end:
            break
        for name, run in runs.items():
            began = perf_counter()
            run()
            took[name].append(perf_counter() - began)
    return {name: median(found) for name, found in took.items()}


def unseen(encoder: Encoder, texts: Sequence[TokenIds], layers: int, dim: int) -> tuple[float, float]:
    """Median milliseconds of batches whose shape was never run, and of the same batches run again."""
    draw = random.Random(2)
    first: list[float] = []
    again: list[float] = []
    for _ in range(24):
        asked = batch([texts[draw.randrange(len(texts))] for _ in range(draw.randrange(1, len(texts)))], [layers], dim)
        for times in (first, again, again):
            began = perf_counter()
            encoder.run(asked)
            times.append(perf_counter() - began)
    ratios = [one / min(again[2 * i : 2 * i + 2]) for i, one in enumerate(first)]
    return median(ratios), max(ratios)
