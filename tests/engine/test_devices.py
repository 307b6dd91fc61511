"""Where the engine runs: GPUs are counted without torch, each takes one worker, a broken device ends its worker."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from strata.app.engine import open_choices
from strata.app.engine.backends import torch_backend
from strata.app.engine.batch import Batch, Row
from strata.app.engine.devices import gpu_count, torch_has_cuda
from strata.app.engine.encoder import Encoder
from strata.app.engine.link import EngineError
from strata.app.engine.open_choices import OpenChoices
from strata.app.engine.options import EngineOptions
from strata.app.engine.pool import EnginePool
from strata.app.engine.wire import Kind, encode_batch, frame
from strata.app.engine.worker import serve
from strata.model_store.bundle.bundle import Bundle


def test_torch_is_known_by_its_build() -> None:
    assert torch_has_cuda() == (torch.version.cuda is not None)


def test_gpus_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "version"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpu_count(tmp_path, driver) == 0
    driver.write_text("580")
    assert gpu_count(tmp_path, driver) == 1
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert gpu_count(tmp_path, driver) == 2
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu_count(tmp_path, driver) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert gpu_count(tmp_path, driver) == 0


def test_a_gpu_takes_one_worker(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_choices, "gpu_count", lambda: 2)
    assert OpenChoices(tiny_bundle, EngineOptions(device="cuda")).size()[0] == 2
    assert OpenChoices(tiny_bundle, EngineOptions(device="cuda:1")).size()[0] == 1
    with pytest.raises(EngineError, match="--workers: there are 2 GPUs, and each takes one worker"):
        OpenChoices(tiny_bundle, EngineOptions(device="cuda", workers=3)).size()
    with pytest.raises(EngineError, match="cuda:1 is one GPU"):
        OpenChoices(tiny_bundle, EngineOptions(device="cuda:1", workers=2)).size()
    on_two = OpenChoices(tiny_bundle, EngineOptions(device="cuda"))
    assert [on_two.device_at(place) for place in range(2)] == ["cuda:0", "cuda:1"]


def test_float16_is_a_gpus(tiny_bundle: Path) -> None:
    assert OpenChoices(tiny_bundle, EngineOptions(device="cuda", dtype="float16")).candidates() == [
        ("torch", "float16")
    ]
    with pytest.raises(EngineError, match="float16 is not available"):
        OpenChoices(tiny_bundle, EngineOptions(device="cpu", dtype="float16")).candidates()


def test_a_device_without_torch_for_it_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_choices, "gpu_count", lambda: 1)
    monkeypatch.setattr(open_choices, "torch_has_cuda", lambda: False)
    assert open_choices._found_device("auto") == "cpu"


def test_a_gpu_that_is_not_there_is_named(tiny_bundle: Path) -> None:
    options = EngineOptions(backend="torch", dtype="bfloat16", device="cuda:99")
    with pytest.raises(
        EngineError,
        match=r"there is no cuda:99: torch finds \d+ GPUs|cuda:99 needs CUDA, and the torch",
    ):
        asyncio.run(EnginePool(tiny_bundle, options).start())


@pytest.mark.parametrize("works", [True, False])
def test_a_broken_device_ends_the_worker(tiny_bundle: Path, works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that fails on a device that works fails alone; on a broken one the worker is of no use any more."""
    bundle = Bundle.open(tiny_bundle)
    encoder = Encoder(bundle.manifest, torch_backend.build(bundle, dtype="float32", device="cpu", threads=1))
    monkeypatch.setattr(encoder, "healthy", lambda: works)
    front, own = socket.socketpair()
    no_such_token = Batch([Row(np.array([5, 2**30], np.int32), 1, 8)])
    with front, own:
        front.sendall(frame(Kind.BATCH, encode_batch(no_such_token)))
        front.shutdown(socket.SHUT_WR)
        if works:
            serve(own, encoder)
            assert front.recv(5)[4] == Kind.FAILURE
        else:
            with pytest.raises(IndexError):
                serve(own, encoder)
