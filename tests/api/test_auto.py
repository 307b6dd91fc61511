"""`layers=auto`: each text leaves where its own vectors have settled, where the model was calibrated for it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from strata.model_store.bundle.bundle import read_manifest, write_manifest
from strata.model_store.bundle.measured import AutoExit
from tests.conftest import RunningServer, ServerFactory
from tests.endure.conftest import series

TEXTS = ["one", "a somewhat longer text than the first", "rain", "42", "What time is it now, and where?", "x y z"]


def calibrated(bundle: Path, folder: Path, threshold: float, refused: str | None = None) -> Path:
    """A copy of a bundle that says where its texts may leave."""
    shutil.copytree(bundle, folder)
    manifest = read_manifest(folder)
    auto = AutoExit(
        texts="none", count=1, exits=manifest.exits, threshold=threshold, mean_depth=2, faithful=1, refused=refused
    )
    write_manifest(folder, manifest.model_copy(update={"auto_exit": auto}))
    return folder


@pytest.fixture(scope="module")
def settling(
    start_session_server: ServerFactory, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> RunningServer:
    # At which some of the texts leave, and others do not.
    folder = calibrated(tiny_bundle, tmp_path_factory.mktemp("auto") / "settling", threshold=0.41)
    return start_session_server(folder)


def test_what_compares_sentences_does_not_give_each_a_depth_of_its_own(settling: RunningServer) -> None:
    inputs = {"source_sentence": TEXTS[0], "sentences": TEXTS}
    answer = settling.client.post("/similarity?layers=auto", json={"inputs": inputs})
    assert answer.status_code == 422
    assert '`layers` "auto" gives each sentence a depth of its own' in answer.json()["error"]


def test_each_text_has_its_own_depth_and_the_vector_of_that_depth(settling: RunningServer) -> None:
    answer = settling.client.post("/embed?layers=auto", json={"inputs": TEXTS})
    assert answer.status_code == 200, answer.text
    depths = [int(layers) for layers in answer.headers["x-strata-layers"].split(",")]
    assert len(depths) == len(TEXTS)
    assert "x-strata-space" not in answer.headers, "vectors of several depths are in several spaces"
    for text, layers, vector in zip(TEXTS, depths, answer.json(), strict=True):
        alone = settling.client.post(f"/embed?layers={layers}", json={"inputs": text}).json()[0]
        assert vector == pytest.approx(alone, abs=1e-5)
        again = settling.client.post("/v1/embeddings", json={"input": text, "layers": "auto"})
        assert again.headers["x-strata-layers"] == str(layers), "a text leaves where it leaves, whoever is with it"


def test_metrics_and_plan_say_no_more_of_it_than_is_known(settling: RunningServer) -> None:
    names = ('strata_input_type_layers_sum{input_type="unsaid"}', "strata_exit_layers_sum")
    quality = 'strata_tier_quality_count{task="similarity",tier="default"}'
    settling.client.post("/embed", json={"inputs": TEXTS})  # which has a quality
    before, counted = [series(settling, name) for name in names], series(settling, quality)
    answer = settling.client.post("/embed?layers=auto&output_dtype=int8", json={"inputs": TEXTS})
    depths = [int(layers) for layers in answer.headers["x-strata-layers"].split(",")]
    assert min(depths) < max(depths)
    assert [series(settling, name) - was for name, was in zip(names, before, strict=True)] == [sum(depths)] * 2
    assert series(settling, quality) == counted, "of texts that left each by itself nothing was measured"
    assert answer.headers["x-strata-int8-range"].split(",") == ["0.500000"] * len(depths), "one for each text"
    plan = settling.client.get("/plan?layers=auto").json()["plan"]
    assert (plan["quality"], plan["worst_set"], plan["space"]) == (None, None, None)
    command = [sys.executable, "-P", "-m", "strata.app.cli", "plan", "--url", settling.url, "--layers", "auto"]
    assert "each text has a depth of its own" in subprocess.run(command, capture_output=True, text=True).stdout


def test_floors_that_forbid_an_early_exit_are_refused_by_name(settling: RunningServer) -> None:
    answer = settling.client.post("/embed?layers=auto&min_layers=4", json={"inputs": "text"})
    assert answer.status_code == 422
    assert '`layers` "auto" needs the exits' in answer.json()["error"]


def test_a_model_without_a_gain_refuses_with_the_reason_it_was_found(
    start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path, server: RunningServer
) -> None:
    folder = calibrated(tiny_bundle, tmp_path / "refusing", threshold=1.0, refused="texts need 11.9 of 12 layers")
    refusing = start_server(folder)
    answer = refusing.client.post("/embed", json={"inputs": "text", "layers": "auto"})
    assert answer.status_code == 422
    assert "texts need 11.9 of 12 layers" in answer.json()["error"]
    uncalibrated = server.client.post("/embed", json={"inputs": "text", "layers": "auto"})
    assert uncalibrated.status_code == 422
    assert "strata profile" in uncalibrated.json()["error"]


def test_any_other_word_is_refused(settling: RunningServer) -> None:
    for answer in (
        settling.client.post("/embed?layers=all", json={"inputs": "text"}),
        settling.client.post("/embed", json={"inputs": "text", "layers": "deep"}),
    ):
        assert answer.status_code == 422
        assert "layers" in answer.json()["error"]
