"""A real server for tests: `strata serve` in a process of its own, on a free loopback port."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import Phase, settings

from strata.model_store.bundle.bundle import record_files, write_manifest
from strata.model_store.bundle.graphs import write_graphs
from strata.model_store.bundle.manifest import Architecture, Manifest, Provenance
from strata.model_store.bundle.output_types import Int8Ranges
from strata.model_store.bundle.quality import MeasuredSet, Quality
from tests.warm import Forked, fits

# Most garbage here is a simulation's and free of cycles: to look for them rarely saves a twentieth of the time.
gc.set_threshold(100_000, 50, 100)

# Made-up examples are the same in every run, and one that fails is told as it is: shrinking a simulated flood takes
# minutes. `pytest --hypothesis-profile=search` draws others each time, and shrinks what fails.
settings.register_profile(
    "bounded", derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate]
)
settings.register_profile("search", deadline=None, database=None)
settings.load_profile("bounded")

# Triton's kernels are interpreted in this process: said before anything imports Triton, whose own functions ask once.
os.environ["TRITON_INTERPRET"] = "1"
# What is multiplied here is tiny: threads that share it wait for one another in loops, for more time than it takes, and
# on a machine that has other work for many times as long. Said before anything imports torch.
os.environ["OMP_NUM_THREADS"] = "1"

_START_S = 60.0
STRATA = (sys.executable, "-P", "-m", "strata.app.cli")
# One small worker and nothing to measure: a test server is ready in about a second.
SMALL = ("--backend", "onnxruntime", "--dtype", "float32", "--workers", "1", "--threads", "1")

TINY_LAYERS, TINY_DIM = 4, 32


def after(command: str) -> tuple[str, ...]:
    """The `strata` command, from a shell that has run ``command`` first."""
    return ("sh", "-c", f'{command} && exec "$@"', "sh", *STRATA)


def open_files(soft: int, hard: int) -> str:
    """What a forked server runs first to have these limits of open files."""
    return f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))"


class RunningServer:
    """`strata serve` as a child process; its log is kept for when something goes wrong."""

    def __init__(
        self,
        bundle: Path,
        log: Path,
        *flags: str,
        env: dict[str, str] | None = None,
        strata: Sequence[str] | None = None,
        folder: Path | None = None,
        first: str = "",
    ) -> None:
        """``strata`` is the command, ``folder`` where it is started; ``first`` a line of Python that it runs first.

        Without a command that is named, and where nothing is in the way, it is started without importing.
        """
        self.log = log
        command = ("serve", "--model", str(bundle), "--port", "0", *flags)
        whole = {**os.environ, **(env or {})}
        self.process: Forked | subprocess.Popen[bytes]
        with log.open("wb") as sink:
            if strata is None and fits(env or {}):
                self.process = Forked(command, sink.fileno(), whole, folder, first)
            else:
                assert not first, "which is for what is forked"
                self.process = subprocess.Popen(
                    [*(strata or STRATA), *command], stderr=sink, stdout=sink, env=whole, cwd=folder
                )
        place = r'listening.*?(?:(http://[^\s"]+)|uds"?[=:]"?([^\s"]+))'
        found: re.Match[str] = self._await(lambda: re.search(place, self.text()))
        self.url = found[1] or "http://unix-socket"
        transport = httpx.HTTPTransport(uds=found[2]) if found[2] else None
        self.client = httpx.Client(base_url=self.url, timeout=120, transport=transport)  # for several threads

    @property
    def port(self) -> int:
        """Where it listens, on loopback."""
        return int(self.url.rpartition(":")[2])

    @property
    def hosts(self) -> list[int]:
        """Process ids of the engine's hosts, which are the front's children."""
        return _children(self.process.pid)

    @property
    def workers(self) -> list[int]:
        """Process ids of the engine's workers, which are the hosts' children."""
        return [worker for host in self.hosts for worker in _children(host)]

    def text(self) -> str:
        """What the server has logged so far."""
        return self.log.read_text()

    def await_ready(self) -> RunningServer:
        """Wait until `/ready` says so."""
        self._await(lambda: self.client.get("/ready").status_code == 200)
        return self

    def await_logged(self, pattern: str) -> re.Match[str]:
        """Wait for a line of the log."""
        found: re.Match[str] = self._await(lambda: re.search(pattern, self.text()))
        return found

    @contextmanager
    def engine_held(self) -> Iterator[None]:
        """The engine stands still, as if its work took for ever; what is answered meanwhile is answered without it."""
        held = self.workers
        assert held
        for pid in held:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in held:
                with suppress(ProcessLookupError):  # held for so long that it was replaced
                    os.kill(pid, signal.SIGCONT)

    def terminate(self) -> None:
        """Ask it to drain and end."""
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """End it and return its exit status."""
        if self.process.poll() is None:
            self.terminate()
        try:
            return self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def _await(self, condition: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + _START_S
        while time.monotonic() < deadline:
            if found := condition():
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"the server did not get there; exit status {self.process.poll()}\n{self.text()}")


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:  # it has ended
        return []


ServerFactory = Callable[..., RunningServer]


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random BERT: exits 1, 2 and 4 of 4 layers, dims 8, 16 and 32, two prompts, a quality table."""
    from tests.tiny_models import MAX_TOKENS, tiny_encoder

    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    tiny_encoder(folder, "bert", layers=TINY_LAYERS, hidden=TINY_DIM)
    config = json.loads((folder / "config.json").read_text())
    architecture = Architecture(
        family="bert",
        layers=TINY_LAYERS,
        hidden_size=TINY_DIM,
        attention_heads=config["num_attention_heads"],
        intermediate_size=config["intermediate_size"],
        activation="gelu",
        norm_eps=config["layer_norm_eps"],
        vocab_size=config["vocab_size"],
        positions=config["max_position_embeddings"],
    )
    write_graphs(folder, architecture)
    scores = {1: {8: 40.0, 16: 50.0, 32: 60.0}, 2: {8: 60.0, 16: 65.0, 32: 70.0}, 4: {8: 70.0, 16: 75.0, 32: 80.0}}
    made_up = MeasuredSet(
        task="similarity", metric="points", count=9, sha256="0" * 64, reference_score=80.0, scores=scores
    )
    manifest = Manifest(
        name="tiny",
        architecture=architecture,
        pooling="mean",
        exits=(1, 2, 4),
        dims=(8, 16, 32),
        max_tokens=MAX_TOKENS,
        prompts={"query": "question the answer ", "passage": ""},
        quality=Quality(reference="tiny at full depth", sets={"made up": made_up}),
        int8_ranges=Int8Ranges(texts="made up", count=1, ranges={e: {8: 0.9, 16: 0.7, 32: 0.5} for e in (1, 2, 4)}),
        provenance=Provenance(source="random weights", licence="MIT", made_with="the tests"),
        files=record_files(folder),
    )
    write_manifest(folder, manifest)
    return folder


@pytest.fixture(scope="session")
def searching(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with exit 0 and tables of search, in which every exit and dim has a figure of its own."""
    from safetensors.numpy import save_file

    from strata.model_store.bundle.bundle import HEADS
    from strata.model_store.importing.importer import import_model
    from strata.model_store.importing.overrides import Overrides
    from tests.tiny_models import random_heads, tiny_encoder

    folder = tmp_path_factory.mktemp("searching")
    source = tiny_encoder(folder / "source", "bert", layers=3, hidden=32)
    save_file(random_heads((0, 1), 32, 2), source / HEADS)
    overrides = Overrides(pooling="mean", exits=(1, 3), dims=(16, 32), name="searching")
    manifest = import_model(source, folder / "bundle", overrides=overrides)
    table = {e: {d: 40.0 + 4 * e + d / 10 for d in (16, 32)} for e in (0, 1, 3)}
    measured = partial(MeasuredSet, metric="points", count=9, sha256="0" * 64, reference_score=80.0)
    alike = {e: row for e, row in table.items() if e}
    similar = {e: {d: 70.0 + e + d / 100 for d in (16, 32)} for e in (1, 3)}
    deeper = {e: {d: score + 3 for d, score in row.items()} for e, row in table.items()}
    sets = {
        "pairs": measured(task="similarity", scores=similar),
        "news": measured(task="search", scores=alike, queries=table),
        "law": measured(task="search", scores=alike, queries=deeper),
    }
    write_manifest(
        folder / "bundle", manifest.model_copy(update={"quality": Quality(reference="the source", sets=sets)})
    )
    return folder / "bundle"


@pytest.fixture(scope="session")
def start_session_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerFactory]:
    """Starts servers that live as long as the test session."""
    yield from _factory(tmp_path_factory.mktemp("servers"))


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[ServerFactory]:
    """Starts servers that end with the test: ``start_server(bundle, *flags, env=..., first=..., ready=True)``."""
    yield from _factory(tmp_path)


def _factory(folder: Path) -> Iterator[ServerFactory]:
    started: list[RunningServer] = []

    def start(bundle: Path, *flags: str, ready: bool = True, **how: Any) -> RunningServer:
        log = folder / f"server-{len(started)}.log"
        server = RunningServer(bundle, log, *SMALL, *flags, **how)
        started.append(server)
        return server.await_ready() if ready else server

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


@pytest.fixture(scope="session")
def server(start_session_server: ServerFactory, tiny_bundle: Path) -> RunningServer:
    """One server with the tiny bundle for all tests that change nothing in it."""
    return start_session_server(tiny_bundle)


@pytest.fixture(scope="session")
def client(server: RunningServer) -> httpx.Client:
    """A client of the shared server."""
    return server.client
