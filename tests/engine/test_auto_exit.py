"""Per-text exit: a text leaves where its vectors have settled, whatever it is batched with."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from strata.app.engine.batch import Batch, Row, TokenIds
from strata.app.engine.wire import decode_batch, encode_batch
from strata.model_store.bundle.bundle import Bundle, write_manifest
from strata.model_store.bundle.measured import AutoExit
from strata.model_store.importing.importer import import_model
from strata.model_store.importing.overrides import Overrides
from tests.engine.reference import Reference, cut
from tests.engine.test_promises import encoder, token_rows
from tests.tiny_models import settle, tiny_encoder

LAYERS, HIDDEN = 6, 32
TESTED = (1, 2, 4, 5, 6)
LOW, HIGH = 0.97, 0.987  # cosines of consecutive exits lie around these


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A tiny BERT whose blocks after the second change little, with a calibrated test at some of its exits."""
    folder = tmp_path_factory.mktemp("settling")
    source = settle(tiny_encoder(folder / "source", "bert", layers=LAYERS, hidden=HIDDEN), after=2, change=0.1)
    overrides = Overrides(pooling="mean", exits=tuple(range(1, LAYERS + 1)), dims=(8, HIDDEN))
    manifest = import_model(source, folder / "bundle", overrides=overrides)
    auto = AutoExit(texts="none", count=1, exits=TESTED, threshold=LOW, mean_depth=3, faithful=1)
    write_manifest(folder / "bundle", manifest.model_copy(update={"auto_exit": auto}))
    return Bundle.open(folder / "bundle")


@pytest.fixture(scope="module")
def reference(bundle: Bundle) -> Reference:
    return Reference(bundle.path, bundle.manifest)


def rows_of(bundle: Bundle) -> list[TokenIds]:
    return token_rows(bundle.manifest.architecture.vocab_size, 24, 60, seed=5)


def leaves_at(reference: Reference, tokens: TokenIds, threshold: float) -> int:
    """The rule, read off the reference's vectors."""
    at = reference.vectors(tokens, TESTED)
    agreeing = (here for before, here in pairwise(TESTED) if at[before] @ at[here] >= threshold)
    return next(agreeing, LAYERS)


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_a_text_leaves_at_the_first_exit_that_agrees_with_the_one_before(
    bundle: Bundle, reference: Reference, backend: str
) -> None:
    texts = rows_of(bundle)
    asked = [(ids, dim, bar) for ids in texts for dim, bar in ((8, LOW), (HIDDEN, LOW), (8, HIGH))]
    rows = [Row(ids, LAYERS, dim, threshold=bar) for ids, dim, bar in asked]
    result = encoder(bundle, backend, "float32").run(Batch(rows))
    assert result.layers == [leaves_at(reference, ids, bar) for ids, _, bar in asked]
    assert len(set(result.layers)) > 2, "texts must leave at several depths for this to say anything"
    for row, vector, layers in zip(rows, result.vectors, result.layers, strict=True):
        np.testing.assert_allclose(vector, cut(reference.vectors(row.tokens, [layers])[layers], row.dim), atol=1e-5)


@pytest.mark.parametrize("backend", ["torch", "onnxruntime"])
def test_depth_and_vector_do_not_depend_on_the_neighbours(bundle: Bundle, backend: str) -> None:
    """Promise 2, with neighbours of a fixed depth and others that find their own."""
    run = encoder(bundle, backend, "float32")
    thresholds = (LOW, None, HIGH)
    rows = [Row(ids, LAYERS, HIDDEN, threshold=thresholds[i % 3]) for i, ids in enumerate(rows_of(bundle))]
    together = run.run(Batch(rows))
    for i, row in enumerate(rows):
        alone = run.run(Batch([row]))
        assert alone.layers == [together.layers[i]]
        np.testing.assert_allclose(alone.vectors[0], together.vectors[i], atol=1e-5)
        assert row.threshold is not None or together.layers[i] == LAYERS


def test_no_text_goes_deeper_than_its_row_says(bundle: Bundle) -> None:
    rows = [Row(ids, 3, HIDDEN, threshold=1.0) for ids in rows_of(bundle)]
    assert encoder(bundle, "torch", "float32").run(Batch(rows)).layers == [3] * len(rows)


def test_texts_that_leave_cost_nothing_more(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    run = encoder(bundle, "torch", "float32")
    places: list[int] = []
    blocks = run._backend.blocks

    def counted(first: int, last: int, state: Any) -> Any:
        places.extend([state.layout.tokens] * (last - first))
        return blocks(first, last, state)

    monkeypatch.setattr(run._backend, "blocks", counted)
    ids = np.arange(5, 15, dtype=np.int32)
    run.run(Batch([Row(ids, LAYERS, HIDDEN, threshold=-1.0), Row(ids, LAYERS, HIDDEN)]))
    assert places == [20, 20, 10, 10, 10, 10]


def test_a_threshold_survives_the_way_to_the_worker() -> None:
    rows = [Row(np.arange(n, dtype=np.int32), 6, 8, n % 2 == 0, t) for n, t in ((3, None), (4, 0.123456789), (1, -1.0))]
    for sent, got in zip(rows, decode_batch(encode_batch(Batch(rows))).rows, strict=True):
        assert (got.layers, got.dim, got.normalize, got.threshold) == (6, 8, sent.normalize, sent.threshold)
        np.testing.assert_array_equal(got.tokens, sent.tokens)
