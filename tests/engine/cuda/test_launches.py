"""What a GPU is asked to do, through Triton's own launcher with a driver that counts: no batch compiles anything new.

In a process of its own: the kernels of this one are interpreted. Kernels are compiled for a Hopper GPU and not run.
"""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="Triton has wheels for Linux on x86-64 and Arm alone")

from strata.model_store.bundle.manifest import ExitNorm
from tests.engine.cuda.aside import Ended, run
from tests.engine.cuda.test_backend import LAYERS, bundle_of
from tests.tiny_models import TinyFamily

PROGRAM = """
import sys
from pathlib import Path

import numpy as np
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from strata.app.engine.backends.cuda import backend as module
from strata.app.engine.backends.cuda.build import _bulk
from strata.app.engine.backends.cuda.graphs import Recorder
from strata.app.engine.batch import Batch, Row
from strata.app.engine.encoder import Encoder
from strata.app.engine.flat import flatten
from strata.model_store.bundle.bundle import Bundle

compiled, launched = [], []


class Utils:
    def load_binary(self, name, kernel, shared, device):
        compiled.append(name)
        return name, name, 32, 0, 1024

    def get_device_properties(self, device):
        return {"max_shared_mem": 232448}


class Driver:
    utils = Utils()

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def launcher_cls(self, source, metadata):
        return lambda *arguments: launched.append(metadata.name)


driver.set_active(Driver())
call = Recorder.__call__


def record(self, key, work):
    before = len(compiled)
    call(self, key, work)
    assert len(compiled) == before, f"the recording of {key} compiled {compiled[before:]}"


Recorder.__call__ = record
module.BUCKETS = module.BUCKETS[:16]  # to as many places as rows are recorded: enough for every path, and quick
module._PLACES = module.BUCKETS[-1]

bundle = Bundle.open(Path(sys.argv[1]))
m = bundle.manifest
backend = module.CudaBackend(bundle, dtype=getattr(torch, sys.argv[2]), device=torch.device("cpu"))
backend.warm_up(flatten(Batch(_bulk(bundle))))
known = len(compiled)
print(sorted(compiled))

encoder = Encoder(m, backend)
draw = np.random.default_rng(0)
exits = sorted({*m.exits, *m.heads})


def run(rows, most, depths, threshold=None):
    ids = [np.full(n, 7, np.int32) for n in draw.integers(1, most, rows)]
    asked = [Row(row, depths[i % len(depths)], m.full_dim, threshold=threshold) for i, row in enumerate(ids)]
    launched.clear()
    try:
        encoder.run(Batch(asked))
    except FloatingPointError:  # nothing was computed
        pass
    return list(launched)


# The first six are recorded, one for each number of rows that is; the others have memory of their own.
for rows, most in ((1, 9), (3, 40), (17, 60), (130, 26), (700, 4), (1800, 2), (701, 20), (2300, 3), (100, 100)):
    for depths in ([exits[-1]], [exits[0]], exits[::-1]):
        run(rows, most, depths)
for rows in (1, 5, 40):
    run(rows, 50, [exits[-1]], threshold=0.5)
assert len(compiled) == known, f"a batch compiled {compiled[known:]}"
told = run(130, 26, [exits[-1]])
print(len(told), told)
layer = 2 if m.architecture.pre_norm else 3
assert len(told) == 1 + layer * m.architecture.layers + 2, "the embedding, two or three a layer, two for an exit"
"""


MODELS: dict[TinyFamily, tuple[ExitNorm, int, str]] = {
    "bert": ("none", 3, "bfloat16"),
    "modernbert": ("final", 0, "float16"),
    "mpnet": ("none", 0, "float32"),
}


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """By family, in a process of its own."""
    folder = tmp_path_factory.mktemp("launches")
    arguments: dict[str, tuple[str, str]] = {}
    for family, (exit_norm, queries, dtype) in MODELS.items():
        bundle = bundle_of(folder / family, family, exit_norm, queries)
        assert bundle.manifest.architecture.layers == LAYERS
        arguments[family] = (str(bundle.path), dtype)
    return run(PROGRAM, arguments, folder)


@pytest.mark.parametrize("family", MODELS)
def test_only_the_start_compiles(family: str, launched: dict[str, Ended]) -> None:
    assert launched[family].status == 0, launched[family].told
