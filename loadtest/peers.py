"""Strata against what a user would have without it: Infinity, and libraries; the same model, texts and machine."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from math import prod
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt

from strata.loadtest import infinity, libraries, library
from strata.loadtest.closed_loop import Sample, run_for
from strata.loadtest.connection import Address, LoadError, fetch
from strata.loadtest.family import cpu_seconds
from strata.loadtest.figures import Figure, median_ratio
from strata.loadtest.options import own_server, served_folder
from strata.loadtest.processes import ServerProcess
from strata.loadtest.report import Report
from strata.loadtest.rounds import interleave
from strata.loadtest.texts import digest, load_texts, stretch

SAME_WORK = 0.999  # least cosine of two servers' vectors at which they are said to do the same work
INFINITY = "infinity"
_COMPARED_TEXTS = 64
_NEXT_ROUND = 509  # texts further on each round starts
_WARM_UP_S = 3.0
_COMPILES_S = 15.0  # a compiled model is compiled again for the first few shapes it meets
_TRIAL_S = 5.0  # of each load on each of the peer's settings, while the best is looked for


_TIMES_INFINITY = {"bfloat16": 5.0, "int8": 8.0}


@dataclass(slots=True, frozen=True)
class Load:
    """One kind of load."""

    name: str
    texts: int  # a request
    connections: int
    at_least: Mapping[str, float] = field(default_factory=dict)  # times the peer's throughput, by our dtype


LOADS = (
    Load("single texts, 32 connections", 1, 32, at_least=_TIMES_INFINITY),
    Load("requests of 32, 4 connections", 32, 4, at_least=_TIMES_INFINITY),
    Load("requests of 32, 1 connection", 32, 1),
    Load("single texts, 1 connection", 1, 1),
)


@dataclass(slots=True, frozen=True)
class Server:
    """A running server that speaks OpenAI's embeddings."""

    process: ServerProcess
    path: str
    model: str

    @property
    def address(self) -> Address:
        """Where it listens."""
        return self.process.address

    async def load(self, load: Load, texts: list[str], seconds: float) -> Sample:
        """So many seconds of one kind of load, from the first text on."""
        groups = [texts[i : i + load.texts] for i in range(0, len(texts) - load.texts + 1, load.texts)]
        requests = [self._request(group if load.texts > 1 else group[0]) for group in groups]
        return await run_for(self.address, requests, load.connections, seconds)

    async def vectors(self, texts: list[str]) -> npt.NDArray[np.float64]:
        """Unit vectors of the texts, [texts, dim]."""
        response = await fetch(self.address, self._request(texts))
        if response.status != 200:
            raise LoadError(f"status {response.status}: {response.body[:300].decode(errors='replace')}")
        vectors = np.array([item["embedding"] for item in response.json()["data"]], np.float64)
        lengths: npt.NDArray[np.float64] = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / lengths

    def _request(self, texts: list[str] | str) -> bytes:
        return self.address.post(self.path, {"model": self.model, "input": texts})


async def measure(args: argparse.Namespace, report: Report) -> list[Figure]:
    """The figures of `strata loadtest peers`."""
    texts = load_texts(args.texts)
    report.facts["texts"] = f"{len(texts)} ({digest(texts)})"
    model = args.peer_model or served_folder(args)
    async with AsyncExitStack() as stack:
        folder = args.peer_venv or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="strata-peer-")))
        process = await stack.enter_async_context(own_server(args))
        info = (await fetch(process.address, process.address.get("/info"))).json()
        dtype = info["model_dtype"]
        report.facts["engine"] = f"{info['engine']['backend']} {dtype}, {info['engine']['workers']} workers"
        figures: list[Figure] = []
        kinds = [kind for kind in libraries.KINDS if kind in args.peers]
        if kinds:
            place = folder / "libraries"
            report.tell(f"sentence-transformers {library.VERSION} in {place}: installed unless it is there")
            program = await asyncio.to_thread(library.install, place, args.peer_python)
            async with libraries.side(args, process.address, info, texts) as ours:
                figures += await libraries.compare(ours, kinds, library.Place(program, model), args, report)
        if INFINITY in args.peers:
            strata = Server(process, "/v1/embeddings", info["model_id"])
            figures += await _against_infinity(strata, dtype, folder / INFINITY, model, texts, args, report)
        return figures


async def _against_infinity(
    strata: Server, dtype: str, folder: Path, model: Path, texts: list[str], args: argparse.Namespace, report: Report
) -> list[Figure]:
    report.tell(f"infinity-emb {infinity.VERSION} in {folder}: installed unless it is there")
    program = await asyncio.to_thread(infinity.install, folder, args.peer_python)
    setting = await _best_setting(program, model, strata, texts, report)
    report.facts["infinity"] = f"infinity-emb {infinity.VERSION}, {setting}"
    async with infinity.serve(program, model, setting) as process:
        peer = Server(process, "/embeddings", infinity.MODEL_NAME)
        report.facts["infinity: least cosine between the two"] = f"{await _agreement(strata, peer, texts):.5f}"
        return await _compare(strata, peer, dtype, texts, args, report)


async def _best_setting(
    program: Path, model: Path, strata: Server, texts: list[str], report: Report
) -> infinity.Setting:
    """The peer's setting with the highest throughput over all loads, of those whose vectors are the model's."""
    tried: dict[infinity.Setting, dict[str, float]] = {}
    for setting in infinity.SETTINGS:
        try:
            async with infinity.serve(program, model, setting) as process:
                peer = Server(process, "/embeddings", infinity.MODEL_NAME)
                agreement = await _agreement(strata, peer, texts)
                if agreement < SAME_WORK:
                    report.tell(f"peer, {setting}: other vectors (cosine {agreement:.4f}), not used")
                    continue
                for load in LOADS[:2]:
                    await peer.load(load, texts, _COMPILES_S if setting.compiled else _WARM_UP_S)
                rates = {load.name: (await peer.load(load, texts, _TRIAL_S)).rate * load.texts for load in LOADS}
        except LoadError as error:
            report.tell(f"peer, {setting}: does not run: {error}")
            continue
        tried[setting] = rates
        report.tell(f"peer, {setting}: {', '.join(f'{rate:.1f}' for rate in rates.values())} texts/s")
    if not tried:
        raise LoadError("Infinity ran with none of its settings, or never gave this model's vectors")
    report.rounds["settings"] = {str(setting): rates for setting, rates in tried.items()}
    return max(tried, key=lambda setting: prod(tried[setting].values()))


async def _agreement(one: Server, other: Server, texts: list[str]) -> float:
    """Least cosine between two servers' vectors of the same texts."""
    compared = texts[:_COMPARED_TEXTS]
    return float((await one.vectors(compared) * await other.vectors(compared)).sum(axis=1).min())


async def _compare(
    strata: Server, peer: Server, dtype: str, texts: list[str], args: argparse.Namespace, report: Report
) -> list[Figure]:
    for server in (strata, peer):
        for load in LOADS[:2]:
            await server.load(load, texts, _WARM_UP_S)
    figures = []
    for load in LOADS:
        report.tell(load.name)
        figures += await _compare_under(load, strata, peer, dtype, texts, args, report)
    return figures


async def _compare_under(
    load: Load, strata: Server, peer: Server, dtype: str, texts: list[str], args: argparse.Namespace, report: Report
) -> list[Figure]:
    per_cpu_second: dict[Server, list[float]] = {strata: [], peer: []}

    async def turn(server: Server, number: int) -> Sample:
        """Both servers of a round begin with the same text, each round with another."""
        cpu = cpu_seconds(server.process.pid)
        sample = await server.load(load, stretch(texts, number * _NEXT_ROUND, len(texts)), args.seconds)
        done = len(sample.spans) * load.texts
        per_cpu_second[server].append(done / (cpu_seconds(server.process.pid) - cpu))
        return sample

    samples = await interleave(
        {"strata": partial(turn, strata), "infinity": partial(turn, peer)},
        args.rounds,
        lambda name, sample: report.tell(f"  {name}: {sample.rate * load.texts:.1f} texts/s"),
    )
    rates = {name: [sample.rate * load.texts for sample in found] for name, found in samples.items()}
    report.rounds[load.name] = rates
    ratio = median_ratio(rates["strata"], rates["infinity"])
    figures = [Figure(f"{load.name}: times infinity", ratio, "x", at_least=load.at_least.get(dtype))]
    for (name, found), server in zip(samples.items(), (strata, peer), strict=True):
        figures.append(Figure(f"  {name}", median(rates[name]), "texts/s"))
        # Says the same on a busy machine, where throughput says who got the cores.
        figures.append(Figure(f"  {name} per CPU second", median(per_cpu_second[server]), "texts"))
        answered = [sample for sample in found if sample.latencies]  # a model that is compiled anew may answer nothing
        if answered:
            figures.append(Figure(f"  {name} p50", median(sample.p50 for sample in answered) * 1e3, "ms"))
            figures.append(Figure(f"  {name} p99", median(sample.p99 for sample in answered) * 1e3, "ms"))
    busiest = max(sample.client_cpu for found in samples.values() for sample in found)
    return [*figures, Figure("  this client, share of one core", busiest)]
