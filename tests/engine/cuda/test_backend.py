"""The GPU backend, its kernels interpreted on the CPU: every family, from recorded memory and from its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

pytest.importorskip("triton", reason="Triton has wheels for Linux on x86-64 and Arm alone")

from strata.app.engine.backends.cuda import backend as module
from strata.app.engine.batch import Batch, Row
from strata.app.engine.encoder import Encoder
from strata.model_store.bundle.bundle import HEADS, Bundle
from strata.model_store.bundle.manifest import ExitNorm
from strata.model_store.importing.importer import import_model
from strata.model_store.importing.overrides import Overrides
from tests.engine.reference import Reference, cut
from tests.tiny_models import FAMILIES, TinyFamily, random_heads, tiny_encoder

LAYERS, HIDDEN = 2, 32
MODELS: list[tuple[TinyFamily, ExitNorm, int]] = [
    *((family, "none", 0) for family in FAMILIES),
    ("modernbert", "final", 2),
    ("bert", "none", 3),
]


def bundle_of(folder: Path, family: TinyFamily, exit_norm: ExitNorm, queries: int) -> Bundle:
    extra: dict[str, Any] = {"global_attn_every_n_layers": 2} if family == "modernbert" else {}
    source = tiny_encoder(folder / "source", family, layers=LAYERS, hidden=HIDDEN, **extra)
    if queries:
        save_file(random_heads(range(LAYERS), HIDDEN, queries), source / HEADS)
    overrides = Overrides(
        pooling="cls" if family in ("roberta", "mpnet") else "mean",
        exit_norm=exit_norm if family == "modernbert" else None,
        exits=tuple(range(1, LAYERS + 1)),
        dims=(8, HIDDEN),
    )
    import_model(source, folder / "bundle", overrides=overrides)
    return Bundle.open(folder / "bundle")


@pytest.mark.parametrize(("family", "exit_norm", "queries"), MODELS)
def test_every_exit_gives_the_reference_vector(
    family: TinyFamily, exit_norm: ExitNorm, queries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundle_of(tmp_path, family, exit_norm, queries)
    reference = Reference(bundle.path, bundle.manifest)
    draw = np.random.default_rng(0)
    exits = bundle.manifest.query_exits
    rows = [
        Row(draw.integers(5, 90, n).astype(np.int32), exits[i % len(exits)], (8, HIDDEN)[i % 2], i != 3)
        for i, n in enumerate((21, 2, 7, 3, 5))
    ]
    ways = [(torch.float32, 0.99999, ["recorded"])]
    if queries or family in ("bert", "mpnet"):  # whose kernels are all that there are; memory is no family's business
        ways = [(torch.float32, 0.99999, ["recorded", "in memory of its own"]), (torch.float16, 0.999, ["recorded"])]
    for dtype, floor, those in ways:
        made = module.CudaBackend(bundle, dtype=dtype, device=torch.device("cpu"))
        for way in those:
            with monkeypatch.context() as patch:
                patch.setattr(module, "_STEP", 16)
                if way == "in memory of its own":
                    patch.setattr(module, "_ROWS", 1)
                result = Encoder(bundle.manifest, made).run(Batch(rows))
            assert result.layers == [row.layers for row in rows]
            for row, vector in zip(rows, result.vectors, strict=True):
                want = cut(reference.vectors(row.tokens, [row.layers])[row.layers], row.dim)
                assert float(vector @ want) / np.linalg.norm(vector) >= floor
                assert row.normalize == (abs(float(np.linalg.norm(vector)) - 1) < 1e-3)
                if dtype == torch.float32 and row.normalize:
                    np.testing.assert_allclose(vector, want, atol=1e-5)


def test_rows_beside_one_that_leaves_are_gathered(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, "bert", "none", 0)
    run = Encoder(bundle.manifest, module.CudaBackend(bundle, dtype=torch.float32, device=torch.device("cpu")))
    ids = np.arange(5, 13, dtype=np.int32)
    rows = [Row(ids, LAYERS, HIDDEN, threshold=2.0), Row(ids[:3], LAYERS, HIDDEN, threshold=-1.0), Row(ids, 1, 8)]
    result = run.run(Batch(rows))
    assert result.layers == [LAYERS, LAYERS, 1]
    reference = Reference(bundle.path, bundle.manifest)
    for row, vector, layers in zip(rows, result.vectors, result.layers, strict=True):
        np.testing.assert_allclose(vector, cut(reference.vectors(row.tokens, [layers])[layers], row.dim), atol=1e-5)


def test_a_row_that_is_not_all_numbers_is_told_by_its_exit(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, "bert", "none", 3)
    made = module.CudaBackend(bundle, dtype=torch.float32, device=torch.device("cpu"))
    made._embedding._word[7, 3] = float("inf")
    good, bad = np.arange(8, 13, dtype=np.int32), np.arange(5, 9, dtype=np.int32)
    encoder = Encoder(bundle.manifest, made)
    assert np.isfinite(encoder.run(Batch([Row(good, 1, 8), Row(good, LAYERS, HIDDEN)])).vectors[1]).all()
    with pytest.raises(FloatingPointError, match="a vector at layer 1 holds NaN or infinity"):
        encoder.run(Batch([Row(good, LAYERS, HIDDEN), Row(bad, 1, 8), Row(good, 1, HIDDEN, normalize=False)]))
