"""`strata loadtest gpu` on a CPU: what fails or takes too long is told, and loses nothing of the rest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from strata.app.cli import main
from strata.app.engine.backends import torch_backend
from strata.app.engine.batch import Batch
from strata.app.engine.encoder import Encoder
from strata.loadtest.gpu import sections
from strata.loadtest.gpu.checks import Reference
from strata.loadtest.processes import ServerProcess
from strata.model_store.bundle.bundle import Bundle
from tests.tiny_models import texts


def gpu(bundle: Path, *options: str) -> int:
    return main(["loadtest", "gpu", "--device", "cpu", "--batch", "8", *options, "--", "--model", str(bundle)])


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[ServerProcess]:
    """The servers that a run starts."""
    found: list[ServerProcess] = []
    make = sections.Run._server

    def server(run: sections.Run) -> ServerProcess:
        found.append(make(run))
        return found[-1]

    monkeypatch.setattr(sections.Run, "_server", server)
    return found


@pytest.mark.parametrize(("section", "servers"), [("server", 1), ("servers", 4)])
def test_a_server_that_takes_too_long_loses_no_other_section(
    section: str,
    servers: int,
    started: list[ServerProcess],
    tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sections._LIMITS, section, 0.2)
    assert gpu(tiny_bundle, "--seconds", "0.01", "--sections", section, "machine") == 0
    told = capsys.readouterr().out
    assert f"{section} failed: TimeUpError: more than 0.2 s\n" in told
    assert told.count("matrix product") == 2, "as it comes, and in the table"
    assert "parts of this run not finished 1 <= 0 MISSED" in (" ".join(line.split()) for line in told.splitlines())
    assert len(started) == servers
    assert all(server._process is not None and server._process.poll() is not None for server in started)


def test_a_server_that_cannot_start_takes_the_others_with_it(
    started: list[ServerProcess], tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that none of them goes on when the run has ended."""
    make = sections.Run._server

    def one_that_fails(run: sections.Run) -> ServerProcess:
        server = make(run)
        if len(started) == 2:
            server._command = ["false"]
        return server

    monkeypatch.setattr(sections.Run, "_server", one_that_fails)
    assert gpu(tiny_bundle, "--strict", "--sections", "servers") == 1, "what is missing is no bar reached"
    assert "servers failed" in capsys.readouterr().out
    assert len(started) == 4
    assert all(server._process is None or server._process.poll() is not None for server in started)


def test_what_takes_too_long_does_not_take_it_for_a_fault_of_its_own(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a backend whose kernels cannot be built, which would go on in another way."""

    def machine(_: sections.Run) -> None:
        while True:
            try:
                sum(range(1000))
            except Exception:
                raise AssertionError("it went on") from None

    monkeypatch.setitem(sections._LIMITS, "machine", 0.2)
    monkeypatch.setattr(sections.Run, "machine", machine)
    assert gpu(tiny_bundle, "--sections", "machine") == 0
    assert "machine failed: TimeUpError: more than 0.2 s\n" in capsys.readouterr().out


@pytest.mark.parametrize("options", [("--sections", "foo"), ("--dtypes", "int8"), ("--device", "gpu")])
def test_what_cannot_be_run_is_told_at_once(
    options: tuple[str, ...], tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        gpu(tiny_bundle, *options)
    assert "must be" in capsys.readouterr().err


def test_a_vector_that_is_no_number_misses_the_bar_wherever_it_lies(tiny_bundle: Path) -> None:
    bundle = Bundle.open(tiny_bundle)
    backend = torch_backend.build(bundle, dtype="float32", device="cpu", threads=1)
    right = Encoder(bundle.manifest, backend)

    class Wrong:
        def run(self, batch: Batch) -> Any:
            result = right.run(batch)
            vectors = [vector.copy() for vector in result.vectors]
            vectors[len(vectors) // 2][:] = np.nan
            return replace(result, vectors=vectors)

    reference = Reference(bundle, texts(4, seed=3), torch.device("cpu"))
    assert all(figure.met is not False for figure in reference.check(right, "float32"))
    wrong: Any = Wrong()
    assert [figure.met for figure in reference.check(wrong, "float32")][:3] == [False, False, False]
