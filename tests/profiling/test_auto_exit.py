"""Per-text exit is offered where it keeps its promise and gains something, and refused with the reason elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from strata.loadtest.profile.auto_time import Saving, judged
from strata.model_store.encoding.reference import unit
from strata.model_store.profiling.auto_exit import FAITHFUL, SHARE, calibrate

LAYERS = 8


def settling(at: np.ndarray, seed: int = 0, dim: int = 32) -> dict[int, np.ndarray]:
    """Vectors that wander until the layer ``at`` of each text, and are near the last one's from there on."""
    draw = np.random.default_rng(seed)
    last = draw.normal(size=(len(at), dim))
    found = {}
    for layer in range(1, LAYERS + 1):
        spread = np.where(layer < at, 1.0, 0.05)[:, None]
        found[layer] = (last + spread * draw.normal(size=last.shape)).astype(np.float32)
    found[LAYERS] = last.astype(np.float32)
    return found


def test_texts_that_settle_early_leave_early_and_stay_true_to_full_depth() -> None:
    at = np.random.default_rng(1).integers(2, 6, 600)
    vectors = settling(at)
    auto = calibrate(vectors, "noise")
    assert auto is not None
    assert auto.refused is None
    assert auto.exits[-1] == LAYERS
    assert auto.mean_depth < 0.8 * LAYERS
    assert auto.faithful >= SHARE - 0.02
    # The figures are those of the rule, applied to the texts that the threshold was not found on.
    tried = {layer: unit(v[1::2], v.shape[1]) for layer, v in vectors.items()}
    depths, cosines = [], []
    for text in range(auto.count):
        pairs = zip(auto.exits, auto.exits[1:], strict=False)
        leaves = (here for before, here in pairs if tried[before][text] @ tried[here][text] >= auto.threshold)
        depths.append(next(leaves, LAYERS))
        cosines.append(tried[depths[-1]][text] @ tried[LAYERS][text])
    assert auto.mean_depth == pytest.approx(np.mean(depths), abs=0.01)
    assert auto.faithful == pytest.approx(np.mean(np.array(cosines) >= FAITHFUL), abs=1e-4)


def test_a_model_that_settles_at_the_end_gains_nothing_and_is_refused() -> None:
    auto = calibrate(settling(np.full(400, LAYERS)), "noise")
    assert auto is not None
    assert auto.refused is not None
    assert f"of {LAYERS} layers on average" in auto.refused


def test_agreeing_too_early_is_not_taken_for_being_done() -> None:
    """Consecutive vectors that agree with one another and not with the last: the test cannot tell them apart."""
    draw = np.random.default_rng(2)
    early, last = draw.normal(size=(2, 400, 32)).astype(np.float32)
    auto = calibrate({1: early, 2: early, 3: early, 4: last}, "noise")
    assert auto is not None
    assert auto.mean_depth == 4
    assert auto.faithful == 1
    assert auto.refused


def test_one_exit_has_nothing_to_choose_from() -> None:
    assert calibrate({4: np.ones((10, 8), np.float32)}, "noise") is None


def test_no_time_saved_is_a_reason_to_refuse() -> None:
    auto = calibrate(settling(np.full(200, 3)), "noise")
    assert auto is not None
    assert auto.refused is None
    assert judged(auto, [Saving(1, 4.0, 0.3), Saving(32, 4.0, -0.1)]) == auto
    refused = judged(auto, [Saving(1, 4.0, 0.0), Saving(32, 4.0, -0.1)]).refused
    assert refused == "no gain: the time saved by leaving early was 0% at batch 1, -10% at batch 32"
