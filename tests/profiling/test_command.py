"""`strata profile`: what it measures is in manifest, report and card, and is found again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from strata.app.cli import main
from strata.model_store.bundle import latency
from strata.model_store.bundle.bundle import Bundle, read_manifest
from strata.model_store.bundle.measured import Quality
from tests.conftest import ServerFactory
from tests.model_store.folders import edit_json

ENGINE = ("--backend", "onnxruntime", "--dtype", "float32")
SHARED = Path(__file__).parents[2].parent / "shared"


def profile(*words: object) -> int:
    return main(["profile", "--quiet", *map(str, words)])


@pytest.fixture(scope="module")
def measured(tiny_bundle: Path, sts: Path, beir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle after everything was measured, its cache beside it; not to be changed."""
    folder = tmp_path_factory.mktemp("measured")
    shutil.copytree(tiny_bundle, folder / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        sets = ("--sts", f"Pairs={sts}", "--beir", f"Half={beir}@dev")
        few = ("--texts", 80, "--batches", "1,2", "--lengths", "8,16")
        assert profile(folder / "tiny", *sets, *few, *ENGINE) == 0
    return folder / "tiny"


def test_the_manifest_has_every_table_and_the_revision_it_had(measured: Path, tiny_bundle: Path) -> None:
    manifest, before = Bundle.open(measured).manifest, read_manifest(tiny_bundle)
    assert manifest.revision == before.revision
    for table, name in ((manifest.quality, "Pairs, cosine Spearman x 100"), (manifest.search, "Half, nDCG@10 x 100")):
        assert table is not None
        assert table.benchmark == name
        assert table.reference == "tiny at full depth"
        assert {exit: tuple(row) for exit, row in table.scores.items()} == dict.fromkeys((1, 2, 4), (8, 16, 32))
        assert table.share(4, 32) == pytest.approx(1, abs=1e-3)
    assert manifest.search is not None
    assert manifest.search.to_last[4] == manifest.search.scores[4]
    assert manifest.agreement is not None
    assert (manifest.agreement.exits, manifest.agreement.count) == ((1, 2, 4), 80)
    assert manifest.sharing == (4,), "random layers agree on nothing"
    assert manifest.auto_exit is not None
    assert manifest.auto_exit.refused


def test_report_and_card_say_the_same(measured: Path) -> None:
    manifest = read_manifest(measured)
    report = json.loads((measured / "quality.json").read_text())
    card = (measured / "README.md").read_text()
    assert manifest.quality is not None
    assert manifest.search is not None
    for layers, row in manifest.quality.scores.items():
        exact = report["sts"][0]["scores"][str(layers)].values()
        assert [round(score, 2) for score in exact] == list(row.values())
        assert f"| {layers} | " + " | ".join(f"{score:.1f}" for score in exact) + " |" in card
    across = report["retrieval"][0]["across"]
    assert {i: set(row) for i, row in across.items()} == {"1": {"1", "2", "4"}, "2": {"2", "4"}, "4": {"4"}}
    assert across["1"]["4"] == report["retrieval"][0]["to_last"]["1"]["32"]
    assert card.count("## Scores") == 1
    assert "Exits that may share an index" in card


def test_latency_and_picture_are_in_the_cache_and_not_in_the_bundle(
    measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = measured.parent / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    revision = read_manifest(measured).revision
    found = latency.load(revision, "onnxruntime", "float32", "cpu", 1)
    assert found is not None
    assert {(t.layers, t.texts, t.tokens) for t in found.timings} == {
        (e, n, t) for e in (1, 2, 4) for n in (1, 2) for t in (8, 16)
    }
    assert all(0 < timing.seconds < 5 for timing in found.timings)
    picture = cache / "strata" / "profiles" / f"tiny-{revision}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not list(measured.rglob("*.p*ng")) + list(measured.rglob("*.partial"))
    assert latency.load(revision, "torch", "float32", "cpu", 1) is None
    monkeypatch.setattr(latency, "machine", lambda: "another")
    assert latency.load(revision, "onnxruntime", "float32", "cpu", 1) is None


def test_a_check_reproduces_what_was_written_and_finds_what_was_not(
    measured: Path, sts: Path, beir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(measured, tmp_path / "copy"))
    options = ("--check", "--no-latency", "--texts", 80, *ENGINE, "--sts", f"Pairs={sts}", "--beir", f"Half={beir}@dev")
    assert profile(copy, *options) == 0
    told = capsys.readouterr().out
    for table in ("manifest, Pairs", "manifest, Half", "Half, across exits", "agreement, p01"):
        assert f"{table}" in told
    assert "DIFFERS" not in told
    quality = json.loads((copy / "manifest.json").read_text())["quality"]
    quality["scores"]["2"]["16"] += 0.3
    edit_json(copy / "manifest.json", quality=quality)
    before = (copy / "manifest.json").read_bytes()
    assert profile(copy, "--check", "--no-latency", "--no-agreement", "--sts", f"Pairs={sts}") == 1
    assert "DIFFERS by more than 0.2; of 9 figures at most 0.30 apart (exit 2, dims 16" in capsys.readouterr().out
    assert (copy / "manifest.json").read_bytes() == before
    assert profile(copy, "--check", "--no-latency", "--no-agreement", "--sts", f"Other={sts}") == 1
    assert "nothing to compare" in capsys.readouterr().out


def test_what_is_not_measured_stays_as_it_was(measured: Path, sts: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(measured, tmp_path / "copy"))
    before = read_manifest(copy)
    assert profile(copy, "--no-latency", "--no-agreement", "--sts", f"Other={sts}") == 0
    after = read_manifest(copy)
    assert isinstance(after.quality, Quality)
    assert after.quality.benchmark == "Other, cosine Spearman x 100"
    assert (after.search, after.agreement, after.auto_exit) == (before.search, before.agreement, before.auto_exit)
    assert [s["name"] for s in json.loads((copy / "quality.json").read_text())["sts"]] == ["Pairs", "Other"]


def test_shares_are_of_the_base_that_is_named(bundle: Path, sts: Path) -> None:
    other = Path(shutil.copytree(bundle, bundle.parent / "other"))
    assert profile(bundle, "--no-latency", "--no-agreement", "--sts", f"Pairs={sts}", "--base", other) == 0
    quality = read_manifest(bundle).quality
    assert quality is not None
    assert quality.reference == "tiny at full depth", "a bundle goes by its own name, not by its source's"
    assert quality.reference_score == quality.scores[4][32]

    told = json.loads((bundle / "manifest.json").read_text())
    told["quality"].update(reference="the source at full depth", reference_score=80.0)
    (bundle / "manifest.json").write_text(json.dumps(told))
    assert profile(other, "--no-latency", "--no-agreement", "--sts", f"Pairs={sts}", "--base", bundle) == 0
    quality = read_manifest(other).quality
    assert quality is not None
    assert (quality.reference, quality.reference_score) == ("the source at full depth", 80.0)


def test_a_card_keeps_everything_but_its_scores(bundle: Path, sts: Path) -> None:
    (bundle / "README.md").write_text("# tiny\n\n## Scores\n\nOld ones.\n\n## Licence\n\nMIT.\n")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"].pop("README.md", None)
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert profile(bundle, "--no-latency", "--no-agreement", "--sts", f"Pairs={sts}") == 0
    card = (bundle / "README.md").read_text()
    assert card.startswith("# tiny\n\n## Scores\n\ntiny at full depth: ")
    assert card.endswith("## Licence\n\nMIT.\n")
    assert "Old ones" not in card


def test_what_cannot_be_measured_is_told_in_a_line(
    bundle: Path, sts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = tmp_path / "few.txt"
    few.write_text("one text\n")
    alike = tmp_path / "alike.tsv"
    alike.write_text("score\tsentence1\tsentence2\n" + "3\ta\tb\n" * 5)
    short = tmp_path / "short.tsv"
    short.write_text("score\tsentence1\tsentence2\n3\ta\n")
    bare = tmp_path / "bare"
    (bare / "qrels").mkdir(parents=True)
    (bare / "corpus.jsonl").write_text('{"_id": "d", "text": "a"}\n')
    (bare / "queries.jsonl").write_text('{"_id": "q", "text": "a"}\n')
    (bare / "qrels" / "test.tsv").write_text("q\td\n")
    for words, reason in (
        ((), "name a BUNDLE or a --url"),
        (("nothing-of-that-name",), "no model 'nothing-of-that-name'"),
        ((bundle, "--dims", "8"), "--exits and --dims go with --url"),
        (("--url", "http://127.0.0.1:9"), "it needs --sts"),
        (("--url", "http://127.0.0.1:9", "--sts", sts), "http://127.0.0.1:9: "),
        ((bundle, "--no-latency", "--sts", few), "row 1: expected the columns score, sentence1, sentence2"),
        ((bundle, "--no-latency", "--beir", tmp_path), "corpus.jsonl"),
        ((bundle, "--no-latency", "--text", few), "1 distinct texts; 20 are needed"),
        ((bundle, "--no-latency", "--no-agreement", "--sts", alike), "5 rows with 1 different scores"),
        ((bundle, "--no-latency", "--sts", short), "row 2: has 2 fields; expected 3"),
        ((bundle, "--no-latency", "--beir", bare), "row 1: has 2 fields; expected query-id, corpus-id, score"),
        ((bundle, "--lengths", "4096"), "--lengths 4096: this model reads"),
    ):
        assert profile(*words) == 1
        told = capsys.readouterr().err
        assert told.startswith("strata profile: ")
        assert told.count("\n") == 1
        assert reason in told
    (bundle / "tokenizer.json").unlink()
    assert profile(bundle) == 1
    assert "tokenizer.json: missing" in capsys.readouterr().err


def test_a_server_gives_the_scores_its_manifest_tells(
    measured: Path, sts: Path, start_server: ServerFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start_server(measured)
    assert profile("--url", server.url, "--sts", f"Pairs={sts}") == 0
    assert "through the server: reproduced; of 9 figures" in capsys.readouterr().out
    assert profile("--url", server.url, "--sts", f"Pairs={sts}", "--exits", "3") == 1
    assert "--exits: the server has 1, 2, 4. Given: 3" in capsys.readouterr().err


def test_the_default_model_served_scores_what_its_manifest_says(
    start_server: ServerFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """All 1,379 pairs, at the exit that is cheap enough for a test."""
    pairs = SHARED / "data" / "stsb" / "test.tsv"
    if not pairs.exists():
        pytest.skip("shared/ with STS-B is not beside the checkout")
    server = start_server(Path("model_store/bundles/strata-gte-small-2d").absolute(), "--workers", "2")
    words = ("--url", server.url, "--sts", f"STS-B test={pairs}", "--exits", "1", "--dims", "32,384")
    assert profile(*words) == 0, capsys.readouterr().out
    assert "through the server: reproduced; of 2 figures" in capsys.readouterr().out


def test_the_command_is_cheap_to_import() -> None:
    check = (
        "import sys, strata.loadtest.profile.command, strata.model_store.bundle.manifest; "
        "print([m for m in ('torch', 'transformers', 'numpy', 'scipy', 'matplotlib', 'httpx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
