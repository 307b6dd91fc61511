"""Promises 1, 2, 3 and 6 of the engine, for every family, exit, dim and backend."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from strata.app.engine.backends import onnx_backend, torch_backend
from strata.app.engine.batch import Batch, Row, TokenIds
from strata.app.engine.encoder import Encoder
from strata.model_store.bundle.bundle import HEADS, Bundle
from strata.model_store.importing.importer import import_model
from strata.model_store.importing.overrides import Overrides
from tests.engine.reference import Reference, cut
from tests.tiny_models import FAMILIES, MAX_TOKENS, random_heads, tiny_encoder

LAYERS, HIDDEN = 4, 32
BACKENDS = {"torch": torch_backend, "onnxruntime": onnx_backend}
# Worst cosine to the fp32 reference that DESIGN.md's second promise allows.
COSINE = {"float32": 0.99999, "bfloat16": 0.9995, "int8": 0.995}
# Random weights are harder on low precision than trained ones: their vectors have no large common part.
TINY_COSINE = {"float32": 0.99999, "bfloat16": 0.999, "int8": 0.99}
KINDS = [("torch", "float32"), ("torch", "bfloat16"), ("onnxruntime", "float32"), ("onnxruntime", "int8")]
MODELS = [*((family, "none", 0) for family in FAMILIES), ("modernbert", "final", 2), ("bert", "none", 3)]


def encoder(bundle: Bundle, backend: str, dtype: str) -> Encoder:
    made = BACKENDS[backend].build(bundle, dtype=dtype, device="cpu", threads=1)
    return Encoder(bundle.manifest, made)


@pytest.fixture(scope="module", params=MODELS, ids=lambda m: f"{m[0]}-{m[1]}-{m[2]}-queries")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Reference]:
    """A tiny random model of a family, imported with every exit; pooling alternates between the families."""
    family, exit_norm, queries = request.param
    folder = tmp_path_factory.mktemp(family)
    extra: dict[str, Any] = {"global_attn_every_n_layers": 3} if family == "modernbert" else {}
    source = tiny_encoder(folder / "source", family, layers=LAYERS, hidden=HIDDEN, **extra)
    if queries:
        save_file(random_heads(range(LAYERS), HIDDEN, queries), source / HEADS)
    overrides = Overrides(
        pooling="cls" if family in ("roberta", "mpnet") else "mean",
        exit_norm=exit_norm if family == "modernbert" else None,
        exits=tuple(range(1, LAYERS + 1)),
        dims=(8, 16, HIDDEN),
    )
    manifest = import_model(source, folder / "bundle", overrides=overrides)
    assert manifest.head_queries == queries
    assert (manifest.query_exits[0] == 0) == bool(queries)
    return Bundle.open(folder / "bundle"), Reference(folder / "bundle", manifest)


def token_rows(vocab: int, count: int, longest: int, seed: int = 0) -> list[TokenIds]:
    draw = np.random.default_rng(seed)
    lengths = [longest, 2, 2, 3, *draw.integers(2, longest, count)][:count]
    return [draw.integers(5, vocab, n).astype(np.int32) for n in lengths]


@pytest.mark.parametrize(("backend", "dtype"), KINDS)
def test_every_exit_and_dim_gives_the_reference_vector(
    model: tuple[Bundle, Reference], backend: str, dtype: str
) -> None:
    """Promises 1 and 2: mixed depths, lengths and dims in one batch, each row as plain transformers has it.

    Exit 0, the embedding layer through its own head, is among them where the model has it.
    """
    bundle, reference = model
    draw = random.Random(1)
    texts = token_rows(bundle.manifest.architecture.vocab_size, 14, MAX_TOKENS)
    rows = [Row(ids, exit_, draw.choice((8, 16, HIDDEN))) for ids in texts for exit_ in bundle.manifest.query_exits]
    draw.shuffle(rows)
    result = encoder(bundle, backend, dtype).run(Batch(rows))
    assert result.layers == [row.layers for row in rows]
    for row, vector in zip(rows, result.vectors, strict=True):
        want = cut(reference.vectors(row.tokens, [row.layers])[row.layers], row.dim)
        assert vector.shape == (row.dim,)
        assert float(vector @ want) >= TINY_COSINE[dtype]
        if dtype == "float32":
            np.testing.assert_allclose(vector, want, atol=1e-5)


@pytest.mark.parametrize(("backend", "dtype"), KINDS)
def test_a_vector_does_not_depend_on_its_neighbours(model: tuple[Bundle, Reference], backend: str, dtype: str) -> None:
    """Promise 2: alone, or packed with others of other lengths and depths."""
    bundle, _ = model
    texts = token_rows(bundle.manifest.architecture.vocab_size, 12, 90, seed=3)
    run = encoder(bundle, backend, dtype)
    rows = [Row(ids, 1 + i % LAYERS, HIDDEN) for i, ids in enumerate(texts)]
    together = run.run(Batch(rows)).vectors
    for row, vector in zip(rows, together, strict=True):
        alone = run.run(Batch([row])).vectors[0]
        if dtype == "bfloat16":  # its sums round differently in another order; they stay as near the reference
            assert float(alone @ vector) >= TINY_COSINE[dtype]
        else:
            np.testing.assert_allclose(alone, vector, atol=1e-5)


def test_rows_are_not_normalised_when_asked(model: tuple[Bundle, Reference]) -> None:
    bundle, reference = model
    ids = token_rows(bundle.manifest.architecture.vocab_size, 1, 20)[0]
    raw = encoder(bundle, "torch", "float32").run(Batch([Row(ids, 2, 16, normalize=False)])).vectors[0]
    assert abs(float(np.linalg.norm(raw)) - 1) > 1e-3
    np.testing.assert_allclose(raw / np.linalg.norm(raw), cut(reference.vectors(ids, [2])[2], 16), atol=1e-5)


def test_a_row_that_left_costs_nothing_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 3: the tokens computed after an exit are those of the rows that stay."""
    tiny_encoder(tmp_path / "source", "bert", layers=LAYERS, hidden=HIDDEN)
    import_model(tmp_path / "source", tmp_path / "bundle", overrides=Overrides(pooling="mean", exits=(1, 2, 3, 4)))
    bundle = Bundle.open(tmp_path / "bundle")
    backend = torch_backend.build(bundle, dtype="float32", device="cpu", threads=1)
    places: list[int] = []
    blocks = backend.blocks

    def counted(first: int, last: int, state: torch_backend._State) -> torch_backend._State:
        places.extend([state.layout.tokens] * (last - first))
        after: torch_backend._State = blocks(first, last, state)
        return after

    monkeypatch.setattr(backend, "blocks", counted)
    ids = np.arange(5, 15, dtype=np.int32)
    Encoder(bundle.manifest, backend).run(Batch([Row(ids, layers, 32) for layers in (1, 1, 2, 4)]))
    assert places == [40, 20, 10, 10]
