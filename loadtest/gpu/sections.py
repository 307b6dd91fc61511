"""The sections of the run: each on its own, so that one that fails or takes too long loses nothing of the others."""

from __future__ import annotations

import argparse
import asyncio
import inspect
import signal
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from time import perf_counter
from typing import Any

import torch

from strata import extras
from strata.app.engine.backends import torch_backend
from strata.app.engine.encoder import Backend, Encoder
from strata.loadtest.closed_loop import run_for
from strata.loadtest.connection import Address
from strata.loadtest.figures import Figure
from strata.loadtest.gpu.cases import LONG, Corpus, batch, corpus, in_turns, seconds, unseen
from strata.loadtest.gpu.checks import Reference
from strata.loadtest.gpu.profile import host_steps, kernels
from strata.loadtest.options import own_server, served_folder
from strata.loadtest.processes import ServerProcess
from strata.loadtest.report import Report, shown
from strata.loadtest.texts import load_texts
from strata.model_store.bundle.bundle import Bundle

_SHARES = {6: 0.58, 3: 0.34, 1: 0.18}  # of full depth's time at most, by layers
_SERVERS = 4  # that share the device
# Seconds that a section may take; all but the last run where none is named.
_LIMITS = {
    "machine": 20.0,
    "checks": 100.0,
    "speed": 60.0,
    "beside": 40.0,
    "server": 75.0,
    "servers": 60.0,
    "profile": 30.0,
    "variants": 120.0,
}
_CHECK_S, _SPEED_S = 40.0, 30.0  # that one dtype may take


class Run:
    """One run over all sections."""

    def __init__(self, args: argparse.Namespace, report: Report) -> None:
        self.args, self.report = args, report
        self.device = torch.device(args.device)
        self.gpu = self.device.type == "cuda"
        if self.gpu and (self.device.index or 0) >= torch.cuda.device_count():
            raise ValueError(f"torch finds no {self.device} here; --device cpu goes the same way on a small scale")
        self.bundle = Bundle.open(served_folder(args), checksums=False)
        self.layers, self.dim = self.bundle.manifest.architecture.layers, self.bundle.manifest.full_dim
        self.corpus: Corpus = corpus(self.bundle, load_texts(args.texts), args.batch, max(args.batch // 16, 2))
        self.figures: list[Figure] = []
        self.failed: list[str] = []  # what did not come to its end
        self._backends: dict[str, Backend] = {}
        self.dtypes = [dtype for dtype in args.dtypes if self.gpu or dtype != "float16"]  # which no CPU here has

    @contextmanager
    def guarded(self, name: str) -> Iterator[None]:
        """Where this fails, say so and count it, since everything after it is to be run all the same."""
        try:
            yield
        except (Exception, TimeUpError) as error:
            self.failed.append(name)
            print(f"{name} failed: {type(error).__name__}: {error}", flush=True)
            traceback.print_exc()

    def wait(self) -> None:
        """For the device."""
        if self.gpu:
            torch.cuda.synchronize(self.device)

    def _done(self, launch: Callable[[], object]) -> Callable[[], None]:
        """What ``launch`` does, until the device has done it."""

        def run() -> None:
            launch()
            self.wait()

        return run

    def backend(self, dtype: str) -> Backend:
        """The engine's backend in a dtype, built once."""
        if dtype not in self._backends:
            began = perf_counter()
            self._backends[dtype] = torch_backend.build(self.bundle, dtype=dtype, device=str(self.device), threads=1)
            held = f", {torch.cuda.memory_reserved(self.device) >> 20} MiB held" if self.gpu else ""
            self.report.tell(f"{type(self._backends[dtype]).__name__} {dtype} in {perf_counter() - began:.1f} s{held}")
        return self._backends[dtype]

    def encoder(self, dtype: str) -> Encoder:
        """The engine in a dtype."""
        return Encoder(self.bundle.manifest, self.backend(dtype))

    def show(self, figures: list[Figure]) -> None:
        """Print figures as they come, and keep them."""
        self.figures += figures
        for figure in figures:
            name, value, bar, met = shown(figure)
            print(f"{name:<58} {value:>16}  {bar:<10} {met}".rstrip(), flush=True)

    def machine(self) -> None:
        """What this is, and its two ceilings: the matrix product and the copy."""
        name = torch.cuda.get_device_name(self.device) if self.gpu else "CPU"
        print(f"{name}, torch {torch.__version__}", flush=True)
        size, kind = (8192, torch.bfloat16) if self.gpu else (1024, torch.float32)
        a, b = (torch.randn(size, size, device=self.device, dtype=kind) for _ in range(2))
        product = seconds(self._done(lambda: a @ b), least=5, budget_s=0.5)
        source, to = (torch.randn(size * size * (8 if self.gpu else 1), device=self.device) for _ in range(2))
        copy = seconds(self._done(lambda: to.copy_(source)), least=5, budget_s=0.5)
        self.show(
            [
                Figure("matrix product", 2 * size**3 / product / 1e12, "TFLOP/s"),
                Figure("copy, bytes read and written", 2 * source.numel() * 4 / copy / 1e9, "GB/s"),
            ]
        )

    def checks(self) -> None:
        """Cosines at every exit."""
        texts = [*self.corpus.short_texts[: min(24, self.args.batch // 4)], self.corpus.long_texts[0]]
        reference = Reference(self.bundle, texts, self.device)
        for dtype in self.dtypes:
            with self.guarded(f"checks in {dtype}"), _at_most(_CHECK_S):
                self.show(reference.check(self.encoder(dtype), dtype))

    def speed(self) -> None:
        """The table, in bf16 and in fp16."""
        for dtype in self.dtypes:
            if dtype != "float32":
                with self.guarded(f"speed in {dtype}"), _at_most(_SPEED_S):
                    self._speed(dtype)

    def _speed(self, dtype: str) -> None:
        encoder, n, full = self.encoder(dtype), len(self.corpus.short), self.layers
        print(
            f"-- {dtype}; {n} short texts of {sum(map(len, self.corpus.short)) / n:.1f} tokens on average", flush=True
        )
        budget = self.args.seconds
        for texts in (n, n // 4):
            depths = {"full": [full], **{str(d): [d] for d in _SHARES}, "mixed": [1, 3, 6, full]}
            lots = {name: batch(self.corpus.short[:texts], asked, self.dim) for name, asked in depths.items()}
            at = in_turns({name: partial(encoder.run, lot) for name, lot in lots.items()}, budget_s=budget)
            bar = 100_000 if texts == n else None
            found = [
                Figure(f"{texts} short texts, {full} layers", texts / at["full"], "texts/s", at_least=bar),
                *(
                    Figure(f"  {d} layers, of that time", at[str(d)] / at["full"], at_most=s)
                    for d, s in _SHARES.items()
                ),
                Figure(f"  1, 3, 6 and {full} mixed, of that time", at["mixed"] / at["full"], at_most=0.60),
            ]
            self.show([Figure(f"{texts} short texts, {full} layers", 1e3 * at["full"], "ms"), *found])
        long = batch(self.corpus.long, [full], self.dim)
        took = seconds(partial(encoder.run, long), budget_s=budget)
        name = f"{len(long.rows)} texts of {LONG} tokens, {full} layers"
        self.show([Figure(name, len(long.rows) / took, "texts/s", at_least=15_000)])
        one = min(self.corpus.short, key=lambda ids: abs(len(ids) - 28))
        for depth, most in ((full, 0.9), (3, 0.35), (1, None)):
            took = seconds(partial(encoder.run, batch([one], [depth], self.dim)), least=50, budget_s=budget)
            self.show([Figure(f"one text of {len(one)} tokens, {depth} layers", 1e3 * took, "ms", at_most=most)])
        middle, worst = unseen(encoder, self.corpus.short, 3, self.dim)
        self.show(
            [
                Figure("a batch of a shape never seen, over one seen (median)", middle, at_most=1.5),
                Figure("  the worst of 24", worst),
            ]
        )

    def profile(self) -> None:
        """Host steps and kernels of a few batches."""
        encoder, backend = self.encoder("bfloat16"), self.backend("bfloat16")
        one = min(self.corpus.short, key=lambda ids: abs(len(ids) - 28))
        cases = {
            f"{len(self.corpus.short)} short, {self.layers} layers": batch(self.corpus.short, [self.layers], self.dim),
            "the same, 1 layer": batch(self.corpus.short, [1], self.dim),
            "the same, mixed": batch(self.corpus.short, [1, 3, 6, self.layers], self.dim),
            f"{len(self.corpus.long)} long, {self.layers} layers": batch(self.corpus.long, [self.layers], self.dim),
            f"one, {self.layers} layers": batch([one], [self.layers], self.dim),
            "one, 3 layers": batch([one], [3], self.dim),
        }
        for name, asked in cases.items():
            steps = host_steps(backend, asked, self.wait, runs=40 if self.gpu else 3)
            print(f"-- {name}\n    {steps}", flush=True)
        for name in list(cases)[:2] + list(cases)[3:5]:
            print(f"-- {name}: {kernels(partial(encoder.run, cases[name]), self.device)}", flush=True)

    def variants(self) -> None:
        """The parts a GPU could run otherwise, timed beside each other."""
        if not self.gpu:
            print("variants are a GPU's", flush=True)
            return
        from strata.loadtest.gpu.variants import compare

        compare(self.bundle, self.corpus, self.device)

    def beside(self) -> None:
        """sentence-transformers on the same device, tokenizing included."""
        if missing := extras.missing_of(("sentence_transformers",)):
            print(f"beside {extras.needs(extras.TRAIN, missing)}", flush=True)
            return
        from sentence_transformers import SentenceTransformer

        kind = {"dtype": torch.bfloat16}
        model = SentenceTransformer(str(self.bundle.path), device=str(self.device), model_kwargs=kind)
        n, budget = len(self.corpus.short), self.args.seconds
        lots = {f"{n} short texts": self.corpus.short_texts, "one text": self.corpus.short_texts[:1]}
        lots[f"{len(self.corpus.long_texts)} long texts"] = self.corpus.long_texts
        for name, texts in lots.items():
            took = seconds(partial(model.encode, texts, batch_size=256), least=3, budget_s=budget)
            self.show([Figure(f"sentence-transformers bf16: {name}", len(texts) / took, "texts/s")])
            self.show([Figure("  its time", 1e3 * took, "ms")])

    async def server(self) -> None:
        """A real server on the device, driven over HTTP."""
        texts, budget = self.corpus.short_texts, 4 * self.args.seconds
        async with self._server() as server:
            print(f"ready after {server.ready_after_s:.1f} s", flush=True)
            for size, connections in ((1, 1), (1, 32), (32, 8), (128, 8)):
                for depth in (self.layers, 3):
                    posts, each = _posts(server.address, texts, size, depth)
                    await run_for(server.address, posts, connections, self.args.seconds)
                    sample = await run_for(server.address, posts, connections, budget)
                    name = f"HTTP: requests of {each} on {connections} connections, {depth} layers"
                    self.show([Figure(name, each * sample.rate, "texts/s")])
                    if sample.latencies:
                        share = f"  p50 (client: {sample.client_cpu:.2f} of a core)"
                        self.show([Figure(share, 1e3 * sample.p50, "ms")])

    async def servers(self) -> None:
        """Several servers on the one device at once: a front is one process, and a GPU takes more than it brings."""
        texts = self.corpus.short_texts
        async with AsyncExitStack() as stack:
            async with asyncio.TaskGroup() as starting:  # where one fails, none is left that starts and is not stopped
                started = [starting.create_task(stack.enter_async_context(self._server())) for _ in range(_SERVERS)]
            addresses = [task.result().address for task in started]
            for depth in (self.layers, 3):
                posts, each = _posts(addresses[0], texts, 128, depth)
                for span in (self.args.seconds, 4 * self.args.seconds):  # the first does not count
                    samples = await asyncio.gather(*(run_for(address, posts, 8, span) for address in addresses))
                rate = each * sum(sample.rate for sample in samples)
                self.show([Figure(f"HTTP: {_SERVERS} servers, requests of {each}, {depth} layers", rate, "texts/s")])

    def _server(self) -> ServerProcess:
        options = ("--device", str(self.device), "--backend", "torch", "--dtype", "bfloat16", "--workers", "1")
        return own_server(self.args, *options)


def _posts(address: Address, texts: Sequence[str], size: int, depth: int) -> tuple[list[bytes], int]:
    """Requests of so many texts each, or of all where there are fewer; and how many each has."""
    size = min(size, len(texts))
    groups = [texts[i : i + size] for i in range(0, len(texts) - size + 1, size)]
    return [address.post(f"/embed?layers={depth}", {"inputs": group}) for group in groups], size


async def measure(args: argparse.Namespace, report: Report) -> list[Figure]:
    """The figures of `strata loadtest gpu`."""
    run = Run(args, report)
    for name in args.sections or [name for name in _LIMITS if name != "variants"]:
        report.tell(f"== {name}")
        work: Callable[[], Any] = getattr(run, name)
        with run.guarded(name):
            if inspect.iscoroutinefunction(work):
                await _awaited(work(), _LIMITS[name])
            else:
                with _at_most(_LIMITS[name]):
                    work()
    return [*run.figures, Figure("parts of this run not finished", len(run.failed), at_most=0)]


class TimeUpError(BaseException):
    """More than this may take. No Exception: what is interrupted must not take it for a fault of its own."""


async def _awaited(work: Coroutine[Any, Any, None], limit_s: float) -> None:
    """Its end, or TimeUpError. By the loop's own clock: a signal's handler would raise in the midst of the loop."""
    limit = asyncio.timeout(limit_s)
    try:
        async with limit:
            await work
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise TimeUpError(f"more than {limit_s:g} s") from error


@contextmanager
def _at_most(limit_s: float) -> Iterator[None]:
    """Raise TimeUpError in this thread after so many seconds, or when what it lies within is over."""

    def stop(*_: Any) -> None:
        raise TimeUpError(f"more than {limit_s:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    left, _ = signal.setitimer(signal.ITIMER_REAL, limit_s)
    began = perf_counter()
    if left:
        signal.setitimer(signal.ITIMER_REAL, min(left, limit_s))
    try:
        yield
    finally:
        rest = left - (perf_counter() - began)
        signal.setitimer(signal.ITIMER_REAL, max(rest, 1e-3) if left else 0)
        signal.signal(signal.SIGALRM, before)
