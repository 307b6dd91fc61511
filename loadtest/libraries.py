"""Strata against libraries that a user would call instead: texts a second, one text, and how true the vectors are."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from strata.app.engine.batch import Batch, Row
from strata.app.engine.cpu import usable_cores
from strata.app.engine.options import EngineOptions
from strata.app.engine.pool import EnginePool
from strata.app.tokenizer import Encode, Tokenizer
from strata.loadtest import library
from strata.loadtest.bare_engine import BareEngine
from strata.loadtest.closed_loop import run_once
from strata.loadtest.figures import Figure, median_ratio
from strata.loadtest.library import Library, Setting
from strata.loadtest.options import served_folder
from strata.loadtest.product import best_product, useful_operations
from strata.loadtest.rounds import Variant, interleave
from strata.loadtest.texts import stretch
from strata.model_store.bundle.bundle import read_manifest

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from strata.app.engine.batch import TokenIds
    from strata.loadtest.connection import Address
    from strata.loadtest.library import Place
    from strata.loadtest.report import Report
    from strata.model_store.bundle.manifest import Manifest

BF16, INT8 = ("torch", "openvino"), ("openvino-int8",)
KINDS = (*BF16, *INT8)
ENGINE, HTTP = "engine", "through HTTP"
# Times the best library of the same kind of arithmetic.
_BARS = {"bfloat16": {ENGINE: 1.4, HTTP: 1.3}, "int8": {ENGINE: 1.2, HTTP: 1.1}}
_OF_THE_PRODUCT = {"batches": 0.75, "single texts": 0.50}
_SINGLE_MS = {"bfloat16": 9.0, "int8": 6.0}
_TRUE = {"bfloat16": 0.9995, "int8": 0.995}
_COMPARED, _SINGLES, _TRIED, _CALIBRATED_ON = 64, 40, 256, 300

Vectors = npt.NDArray[np.float64]


@dataclass(slots=True)
class Side:
    """Strata: a server and the bare engine with the same choice, and the texts as both take them."""

    address: Address
    pool: EnginePool
    bare: BareEngine
    manifest: Manifest
    dtype: str
    folder: Path  # of the bundle
    texts: list[str]
    tokens: Sequence[TokenIds]  # of the same texts

    async def engine_seconds(self, start: int, count: int) -> float:
        """The bare engine over texts from place ``start`` on."""
        ids = [self.tokens[(start + i) % len(self.tokens)] for i in range(count)]
        return await self.bare.run(ids, self.manifest.architecture.layers, self.manifest.full_dim, 128)

    async def http_seconds(self, start: int, count: int) -> float:
        """The same through HTTP, in requests of 32 on 4 connections."""
        groups = [stretch(self.texts, start + i, 32) for i in range(0, count, 32)]
        requests = [self.address.post("/embed", {"inputs": group}) for group in groups]
        return (await run_once(self.address, requests, 4)).seconds

    async def engine_singles(self, start: int, count: int) -> list[float]:
        """Each text by itself, from its tokens to its vector."""
        took = []
        for i in range(count):
            row = Row(self.tokens[(start + i) % len(self.tokens)], self.layers, self.manifest.full_dim)
            began = time.perf_counter()
            await self.pool.run(Batch([row]))
            took.append(time.perf_counter() - began)
        return took

    async def http_singles(self, start: int, count: int) -> list[float]:
        """Each text by itself, from the request to the answer."""
        requests = [self.address.post("/embed", {"inputs": text}) for text in stretch(self.texts, start, count)]
        return (await run_once(self.address, requests, 1)).latencies

    async def vectors(self, pool: EnginePool) -> Vectors:
        """Of the first texts, by some engine: [texts, dim]."""
        rows = [Row(ids, self.layers, self.manifest.full_dim) for ids in self.tokens[:_COMPARED]]
        return np.array((await pool.run(Batch(rows))).vectors, np.float64)

    @property
    def layers(self) -> int:
        """Full depth."""
        return self.manifest.architecture.layers


@asynccontextmanager
async def side(
    args: argparse.Namespace, address: Address, info: dict[str, Any], texts: list[str]
) -> AsyncIterator[Side]:
    """Our side, with the bare engine running what the server chose."""
    folder, engine = served_folder(args), info["engine"]
    manifest = read_manifest(folder)
    tokens = await Tokenizer(folder, manifest, workers=1, default_prompt_name=None).encode(texts, Encode(truncate=True))
    options = EngineOptions(engine["backend"], engine["dtype"], engine["device"], engine["workers"], engine["threads"])
    async with started(folder, options) as pool:
        bare = BareEngine(pool, info["max_batch_tokens"])
        yield Side(address, pool, bare, manifest, engine["dtype"], folder, texts, tokens)


@asynccontextmanager
async def started(folder: Path, options: EngineOptions) -> AsyncIterator[EnginePool]:
    """An engine, stopped at the end."""
    pool = EnginePool(folder, options)
    try:
        await pool.start()
        yield pool
    finally:
        await pool.stop()


async def compare(
    ours: Side, kinds: Sequence[str], place: Place, args: argparse.Namespace, report: Report
) -> list[Figure]:
    """The figures of Strata beside each library."""
    place.calibration.write_text("\n".join(ours.texts[-_CALIBRATED_ON:]), encoding="utf-8")
    exact = await _float32_vectors(ours)
    figures = await _near_the_limit(ours, report)
    async with AsyncExitStack() as stack:
        running: dict[str, Library] = {}
        alone: dict[str, Library] = {}
        for kind in kinds:
            setting = await _best(kind, place, ours.texts, report)
            running[kind] = await stack.enter_async_context(Library(place, setting))
            alone[kind] = await stack.enter_async_context(Library(place, Setting(kind, 1, usable_cores())))
            report.facts[kind] = f"{setting}; one text: {alone[kind].setting}"
        return [*figures, *await _beside(ours, running, alone, exact, args, report)]


async def _best(kind: str, place: Place, texts: list[str], report: Report) -> Setting:
    """The setting with the most texts a second."""
    rates: dict[Setting, float] = {}
    for setting in library.settings(kind, usable_cores()):
        async with Library(place, setting) as peer:
            await peer.seconds(texts[:_TRIED])
            took = [await peer.seconds(stretch(texts, _TRIED, _TRIED)) for _ in range(2)]
        rates[setting] = _TRIED / min(took)
        report.tell(f"{setting}: {rates[setting]:.1f} texts/s")
    report.rounds.setdefault("settings of libraries", {}).update({str(s): rate for s, rate in rates.items()})
    return max(rates, key=lambda setting: rates[setting])


async def _float32_vectors(ours: Side) -> Vectors:
    """Full-depth vectors of the first texts by a float32 engine, [texts, dim]."""
    async with started(ours.folder, EngineOptions("auto", "float32", "cpu", 1, 1)) as pool:
        return await ours.vectors(pool)


async def _alone(ours: Side) -> dict[str, float]:
    """Useful operations a second of one worker, while the others rest: the best of some turns."""
    a = ours.manifest.architecture
    found = {}
    batch = list(ours.tokens[:16])
    for name, rows in {"batches": [batch], "single texts": [[ids] for ids in batch]}.items():
        rates = []
        for _ in range(7):
            for ids in rows:
                made = Batch([Row(each, ours.layers, ours.manifest.full_dim) for each in ids])
                seconds = (await ours.pool.run(made)).seconds
                rates.append(useful_operations(a, [len(each) for each in ids]) / seconds)
        found[name] = max(rates) if name == "batches" else median(rates)
    return found


async def _near_the_limit(ours: Side, report: Report) -> list[Figure]:
    if ours.dtype == "int8":
        return []
    found = await _alone(ours)
    limit = best_product(ours.manifest.architecture, ours.dtype)
    report.facts["best matrix product, one core"] = f"{limit / 1e9:.0f} GFLOP/s in {ours.dtype}"
    figures = []
    for name, rate in found.items():
        bar = _OF_THE_PRODUCT[name] if ours.dtype == "bfloat16" else None
        figures.append(Figure(f"{name}: useful operations of one worker", rate / 1e9, "GFLOP/s"))
        figures.append(Figure("  over the best matrix product", rate / limit, at_least=bar))
    return figures


async def _beside(
    ours: Side,
    running: dict[str, Library],
    alone: dict[str, Library],
    exact: Vectors,
    args: argparse.Namespace,
    report: Report,
) -> list[Figure]:
    """``running`` take many texts, ``alone`` one at a time, each with what suits it."""
    many = args.turn_texts // 32 * 32

    async def peer_seconds(peer: Library, number: int) -> float:
        return await peer.seconds(stretch(ours.texts, number * many, many))

    async def peer_singles(peer: Library, number: int) -> list[float]:
        return await peer.singles(stretch(ours.texts, number * _SINGLES, _SINGLES))

    throughput: dict[str, Variant[float]] = {
        ENGINE: lambda number: ours.engine_seconds(number * many, many),
        HTTP: lambda number: ours.http_seconds(number * many, many),
        **{kind: partial(peer_seconds, peer) for kind, peer in running.items()},
    }
    singles: dict[str, Variant[list[float]]] = {
        ENGINE: lambda number: ours.engine_singles(number * _SINGLES, _SINGLES),
        HTTP: lambda number: ours.http_singles(number * _SINGLES, _SINGLES),
        **{kind: partial(peer_singles, peer) for kind, peer in alone.items()},
    }
    for name in throughput:
        await throughput[name](0)
        await singles[name](0)
    seconds = await interleave(
        throughput, args.rounds, lambda name, took: report.tell(f"  {name}: {many / took:.1f} texts/s")
    )
    waits = await interleave(
        singles, args.rounds, lambda name, took: report.tell(f"  {name}: {1e3 * median(took):.1f} ms a text")
    )
    rates = {name: [many / each for each in took] for name, took in seconds.items()}
    report.rounds["texts a second"] = rates
    report.rounds["one text, ms"] = {name: [1e3 * median(took) for took in found] for name, found in waits.items()}
    vectors = {ENGINE: await ours.vectors(ours.pool)}
    for kind, peer in running.items():
        vectors[kind] = await peer.vectors(ours.texts[:_COMPARED])
    own = "int8" if ours.dtype == "int8" else "bfloat16"
    rivals = [kind for kind in (INT8 if own == "int8" else BF16) if kind in running]
    figures = []
    for name, found in rates.items():
        p50 = median(1e3 * median(took) for took in waits[name])
        figures.append(Figure(f"{name}: many texts", median(found), "texts/s"))
        if name in (ENGINE, HTTP) and rivals:
            best = [max(each) for each in zip(*(rates[kind] for kind in rivals), strict=True)]
            ratio = median_ratio(found, best)
            figures.append(Figure(f"  over the best of {', '.join(rivals)}", ratio, "x", at_least=_BARS[own][name]))
        bar = _SINGLE_MS[own] if name == ENGINE and ours.dtype in _SINGLE_MS else None
        figures.append(Figure("  one text, p50", p50, "ms", at_most=bar))
        if name in vectors:
            worst = float((vectors[name] * exact).sum(axis=1).min())
            figures.append(Figure("  worst cosine to float32", worst, at_least=_TRUE[own] if name == ENGINE else None))
    return figures
