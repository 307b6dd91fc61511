"""int8 on torch: by scales measured once, so a vector is near float32's and no other row changes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from strata.app.engine.backends import torch_backend
from strata.app.engine.batch import Batch, Row
from strata.app.engine.encoder import Encoder
from strata.model_store.bundle.bundle import Bundle, read_manifest, read_tokenizer
from strata.model_store.bundle.registry import DEFAULT, find
from strata.model_store.importing.importer import import_model
from strata.model_store.importing.overrides import Overrides
from strata.model_store.profiling import calibration
from strata.model_store.profiling.calibration import calibrate
from strata.model_store.profiling.texts import Texts
from tests.tiny_models import TinyFamily, tiny_encoder

TEXTS = [f"{'word ' * (i % 7)}the cat number {i} sat on mat {i * 7 % 13}" for i in range(40)]


@pytest.mark.parametrize("family", ["bert", "modernbert"])
@pytest.mark.parametrize("aim", [0.0, 2.0], ids=["all", "some_wide"])
def test_int8_is_near_float32_at_every_exit_alone_and_in_a_batch(
    tmp_path: Path, family: TinyFamily, aim: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "_AIM", aim)
    tiny_encoder(tmp_path / "source", family, layers=3, hidden=32)
    overrides = Overrides(pooling="mean", exit_norm="none" if family == "modernbert" else None, exits=(1, 2, 3))
    import_model(tmp_path / "source", tmp_path / "bundle", overrides=overrides)
    before = read_manifest(tmp_path / "bundle")
    with pytest.raises(ValueError, match="scales"):
        torch_backend.build(Bundle.open(tmp_path / "bundle"), dtype="int8", device="cpu", threads=1)
    told = calibrate(tmp_path / "bundle", Texts("made up", TEXTS))
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.manifest.revision == before.revision
    assert set(told.worst_cosine) == {1, 2, 3}
    assert len(told.wide) == (4 if aim else 0), "of twelve dense layers"
    run = {
        dtype: Encoder(bundle.manifest, torch_backend.build(bundle, dtype=dtype, device="cpu", threads=1)).run
        for dtype in ("float32", "int8")
    }
    ids = [np.array(e.ids, np.int32) for e in read_tokenizer(bundle.path).encode_batch_fast(TEXTS[:12])]
    rows = [Row(tokens, exit_, 32) for tokens in ids for exit_ in (1, 2, 3)]
    together = np.array([*run["int8"](Batch(rows)).vectors])
    exact = np.array([*run["float32"](Batch(rows)).vectors])
    assert (together * exact).sum(1).min() >= 0.99
    alone = np.array([run["int8"](Batch([row])).vectors[0] for row in rows])
    assert (together * alone).sum(1).min() >= 0.999


def test_the_default_bundle_keeps_its_cosine_in_int8_whatever_the_text() -> None:
    bundle = Bundle.open(find(DEFAULT))
    tokenizer, m = read_tokenizer(bundle.path), bundle.manifest
    texts = [
        "sleeping cat",
        "The committee met on Tuesday and, after a long debate, agreed to postpone the vote until the spring.",
        "SELECT name FROM users WHERE id = 7; -- ERROR 0x80070005",
        "привет мир, как дела? 日本語のテキスト 😀",
        "x " * 60,
        *(f"{own.content} " * 5 for own in tokenizer.get_added_tokens_decoder().values()),
    ]
    rows = [
        Row(np.array(e.ids, np.int32), exit_, m.full_dim)
        for e in tokenizer.encode_batch_fast(texts)
        for exit_ in m.exits
    ]
    exact, rough = (
        Encoder(m, torch_backend.build(bundle, dtype=dtype, device="cpu", threads=1)).run
        for dtype in ("float32", "int8")
    )
    together = np.array(rough(Batch(rows)).vectors)
    alone = np.array([rough(Batch([row])).vectors[0] for row in rows])
    assert (together * np.array(exact(Batch(rows)).vectors)).sum(1).min() >= 0.995
    assert (together * alone).sum(1).min() >= 0.9999
