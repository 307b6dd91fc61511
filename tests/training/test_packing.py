"""Packed rows: every row once, in one bin, and what an encoder makes of it is what it makes of the row alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from strata.model_store.training.encoder import Encoder
from strata.model_store.training.packing import NO_ROW, pack
from strata.model_store.training.trainer import load_model
from tests.tiny_models import FAMILIES, TinyFamily, texts, tiny_sentence_model

ROWS = [[1, 2, 3], [4], [5, 6, 7, 8, 9], [10, 11], [12, 13, 14, 15], [16]]


def test_rows_lie_whole_in_bins() -> None:
    packed = pack(ROWS, bins=3, width=6, pad_id=0)
    assert packed.tokens == sum(map(len, ROWS))
    found = []
    for ids, positions, slots in zip(packed.ids, packed.positions, packed.slots, strict=True):
        for slot in sorted(set(slots.tolist()) - {NO_ROW}):
            found.append(ids[slots == slot].tolist())
            assert positions[slots == slot].tolist() == list(range(len(found[-1])))
        assert set(ids[slots == NO_ROW].tolist()) <= {0}
    assert sorted(found) == sorted(ROWS)
    lengths = torch.diff(packed.starts)
    assert packed.starts[-1] == 18
    assert lengths.min() > 0
    assert lengths.max() == packed.longest == 5
    rows = packed.padded()
    assert sorted(
        packed.ids.flatten()[index[mask]].tolist() for index, mask in zip(rows.index, rows.mask, strict=True)
    ) == sorted(ROWS)
    assert torch.equal(packed.flat(packed.ids.flatten()[rows.index], rows), packed.ids.flatten())


def test_a_row_without_room_is_left_out() -> None:
    packed = pack(ROWS, bins=1, width=6, pad_id=0)
    assert (packed.tokens, len(packed.places)) == (6, 2)  # the longest, and a token's row beside it


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("arithmetic", [torch.float32, torch.bfloat16])
def test_full_depth_is_what_sentence_transformers_computes(
    family: TinyFamily, arithmetic: torch.dtype, tmp_path: Path
) -> None:
    base = tiny_sentence_model(tmp_path / family, family, layers=3)
    some = texts(7, seed=4, longest=12)
    plain = SentenceTransformer(str(base), device="cpu", model_kwargs={"dtype": torch.float32})
    theirs = plain.encode(some, normalize_embeddings=True)
    encoder = Encoder(load_model(str(base), torch.device("cpu")), arithmetic)
    rows = plain.tokenizer(some)["input_ids"]
    packed = pack(rows, bins=4, width=max(40, *map(len, rows)), pad_id=encoder.pad_id)
    with torch.no_grad():
        embedded, last = encoder.states(packed, (0, 3))
        ours = torch.nn.functional.normalize(encoder.own_pooling(last, packed), dim=-1).numpy()
    assert embedded.dtype == torch.float32
    order = np.argsort([-len(row) for row in rows], kind="stable")  # as packed: longest first
    np.testing.assert_allclose(ours, theirs[order], atol=1e-5 if arithmetic == torch.float32 else 0.03)


def test_gradients_of_half_precision_blocks_reach_the_weights(tiny_bert: Path) -> None:
    found = []
    for arithmetic in (torch.float32, torch.bfloat16):
        encoder = Encoder(load_model(str(tiny_bert), torch.device("cpu")), arithmetic)
        packed = pack([[2, 9, 14, 20, 3], [2, 8, 3]], bins=1, width=8, pad_id=0)
        encoder.own_pooling(encoder.states(packed, (3,))[0], packed)[:, :5].sum().backward()
        encoder.collect_gradients()
        found.append(torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None]))
        with torch.no_grad():
            before = encoder.states(packed, (3,))[0]
            for weight in encoder.blocks().parameters():
                weight.mul_(1.5)
            encoder.refresh()
            assert not torch.allclose(before, encoder.states(packed, (3,))[0], atol=0.05)
    assert found[0].shape == found[1].shape
    assert torch.nn.functional.cosine_similarity(found[0], found[1], dim=0) > 0.99


def test_the_word_table_gets_the_gradient_of_every_micro_batch(tiny_bert: Path) -> None:
    found = []
    for sparse in (True, False):
        encoder = Encoder(load_model(str(tiny_bert), torch.device("cpu")))
        words = encoder.model.get_parameter("0.auto_model.embeddings.word_embeddings.weight")
        encoder._running[0].get_input_embeddings().sparse = sparse
        for rows in ([[2, 9, 14, 9, 3], [2, 8, 3]], [[2, 9, 3]]):
            packed = pack(rows, bins=1, width=8, pad_id=0)
            encoder.own_pooling(encoder.states(packed, (3,))[0], packed)[:, :5].sum().backward()
        encoder.collect_gradients()
        found.append(words.grad)
    assert found[0] is not None
    assert not found[0].is_sparse
    assert found[0].abs().sum() > 0
    torch.testing.assert_close(*found)
