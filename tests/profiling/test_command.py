"""`strata profile`: what it measures is in manifest, report and card, and is found again."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sentence_transformers import SentenceTransformer
from transformers.utils import logging

from strata.app.cli import main
from strata.model_store.bundle import latency
from strata.model_store.bundle.bundle import Bundle, read_manifest
from strata.model_store.bundle.quality import Quality, Side
from strata.model_store.profiling.beir import read_beir
from strata.model_store.profiling.retrieval import Ranking
from tests.conftest import ServerFactory
from tests.model_store.folders import edit_json
from tests.share_tables import shares_told
from tests.tiny_models import tiny_sentence_model

ENGINE = ("--backend", "onnxruntime", "--dtype", "float32")
SHARED = Path(__file__).parents[2].parent / "shared"


def profile(*words: object) -> int:
    return main(["profile", "--quiet", *map(str, words)])


def worth(quality: Quality, task: str, layers: int, side: Side = "alike") -> float:
    """The share at 32 dims as tables print it."""
    found = quality.worth(task, layers, 32, side)
    assert found is not None
    return round(found.share, 3)


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
    quality = manifest.quality
    assert quality is not None
    assert (quality.reference, quality.dtype) == ("tiny at full depth", "float32")
    assert {name: each.metric for name, each in quality.sets.items()} == {
        "made up": "points",
        "Pairs": "cosine Spearman x 100",
        "Half": "nDCG@10 x 100",
    }
    for name in ("Pairs", "Half"):
        scores = quality.sets[name].scores
        assert {exit: tuple(row) for exit, row in scores.items()} == dict.fromkeys((1, 2, 4), (8, 16, 32))
        assert quality.sets[name].reference_score == scores[4][32]
    half = quality.sets["Half"]
    assert (half.task, half.count, half.documents) == ("search", 12, 30)
    assert half.queries[4] == half.scores[4]
    assert half.queries[1] != half.scores[1]
    worth = quality.worth("search", 4, 32)
    assert worth is not None
    assert (worth.share, worth.worst_set) == (1.0, "Half")
    assert quality.told_apart is not None
    assert manifest.agreement is not None
    assert (manifest.agreement.exits, manifest.agreement.count) == ((1, 2, 4), 80)
    assert manifest.sharing == (4,), "random layers agree on nothing"
    assert manifest.auto_exit is not None
    assert manifest.auto_exit.refused


def test_the_card_says_the_same(measured: Path) -> None:
    manifest = read_manifest(measured)
    quality = manifest.quality
    assert quality is not None
    card = (measured / "README.md").read_text()
    for each in quality.sets.values():
        for layers, row in (*each.scores.items(), *each.queries.items()):
            assert f"| {layers} | " + " | ".join(f"{score:.2f}" for score in row.values()) + " |" in card
    told = shares_told(card)
    expected = {
        layers: {
            "search": 100 * worth(quality, "search", layers),
            "queries on full-depth documents": 100 * worth(quality, "search", layers, "queries"),
            "similarity": 100 * worth(quality, "similarity", layers),
        }
        for layers in (1, 2, 4)
    }
    assert told.keys() == expected.keys()
    for layers, shares in expected.items():
        assert told[layers] == pytest.approx(shares, abs=0.051)
    assert card.count("## Scores") == 1
    assert "Exits that may share an index" in card
    assert "at hand, by\n\n```sh\nstrata profile tiny --check --no-latency --precision float32 \\\n" in card, (
        "its own shares"
    )
    assert '--sts "similarity:Pairs=FILE"' in card
    assert '--beir "search:Half=FOLDER"' in card


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


def test_what_was_measured_is_printed_in_80_columns_or_as_json(
    bundle: Path, sts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (bundle, *ENGINE, "--batches", "1", "--lengths", "8", "--texts", 80, "--sts", f"Pairs={sts}")
    assert profile(*options, "--json") == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert set(found) == {"name", "revision", "folder", "quality", "agreement", "auto_exit", "latency"}
    assert "Pairs" in found["quality"]["sets"]
    assert {timing["layers"] for timing in found["latency"]["timings"]} == {1, 2, 4}
    tables = [line for line in told.err.splitlines() if not line.startswith(("written", "drawn", "tiny"))]
    assert max(map(len, tables)) <= 80
    for said in ("latency in ms by texts x tokens", "similarity: shares of", "agreement with full depth", "worst 1 %"):
        assert said in told.err


def test_a_check_reproduces_what_was_written_and_finds_what_was_not(
    measured: Path, sts: Path, beir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(measured, tmp_path / "copy"))
    options = ("--check", "--no-latency", "--texts", 80, *ENGINE, "--sts", f"Pairs={sts}", "--beir", f"Half={beir}@dev")
    assert profile(copy, *options) == 0
    told = capsys.readouterr().out
    for table in ("Pairs, similarity", "Half, search", "Half, queries on full-depth documents", "agreement, p01"):
        assert f"{table}: reproduced" in told
    assert "DIFFERS" not in told
    quality = json.loads((copy / "manifest.json").read_text())["quality"]
    quality["sets"]["Pairs"]["scores"]["2"]["16"] += 0.3
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
    assert profile(copy, "--no-latency", "--no-agreement", "--sts", f"legal:Other={sts}", "--tell-only", "Other") == 0
    after = read_manifest(copy)
    assert before.quality is not None
    assert after.quality is not None
    assert {name: after.quality.sets[name] for name in before.quality.sets} == before.quality.sets
    assert (after.quality.sets["Other"].task, after.quality.sets["Other"].decides) == ("legal", False)
    assert after.quality.tasks() == before.quality.tasks(), "a set that is only told gives no task a figure"
    assert (after.agreement, after.auto_exit) == (before.agreement, before.auto_exit)


def test_shares_are_of_the_source_model_and_a_check_works_its_scores_out_again(
    bundle: Path, sts: Path, beir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The source as sentence-transformers has it: with its prompts, in lower case, and through its Dense module."""
    base = tiny_sentence_model(tmp_path / "base", "bert", layers=2, dense=24, prompts={"query": "the old river "})
    sets = ("--sts", f"Pairs={sts}", "--beir", f"Half={beir}@dev", "--base", base)
    logging.enable_progress_bar()  # as in a process of its own
    assert profile(bundle, "--no-latency", "--no-agreement", *sets) == 0
    assert "%|" not in capsys.readouterr().err, "--quiet means no bar of any library"
    quality = read_manifest(bundle).quality
    assert quality is not None
    assert (quality.reference, set(quality.sets)) == ("random weights at full depth", {"Pairs", "Half"})
    model = SentenceTransformer(str(base), device="cpu")
    data = read_beir(beir, "dev")
    queries = model.encode(list(data.queries.values()), prompt_name="query", normalize_embeddings=True)
    documents = model.encode(list(data.documents.values()), normalize_embeddings=True)
    by_hand = 100 * Ranking(data).ndcg(queries, documents).mean()
    assert quality.sets["Half"].reference_score == pytest.approx(by_hand, abs=0.01)
    assert quality.sets["Half"].reference_score != quality.sets["Half"].scores[4][32]
    check = ("--check", "--no-latency", "--no-agreement", *sets)
    assert profile(bundle, *check) == 0
    assert "Half, random weights at full depth: reproduced; of 1 figures" in capsys.readouterr().out
    changed = json.loads((bundle / "manifest.json").read_text())["quality"]
    changed["sets"]["Half"]["reference_score"] += 1
    edit_json(bundle / "manifest.json", quality=changed)
    assert profile(bundle, *check) == 1, "although the wrong score is remembered in the cache"
    assert "Half, random weights at full depth: DIFFERS" in capsys.readouterr().out
    assert profile(bundle, "--no-latency", "--no-agreement", "--sts", f"Other={sts}") == 1
    assert "name that model's folder with --base" in capsys.readouterr().err


def test_another_set_under_a_known_name_is_told_by_a_check(
    measured: Path, sts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "pairs.tsv"
    other.write_text("\n".join(sts.read_text().splitlines()[:-1]) + "\n")
    assert profile(measured, "--check", "--no-latency", "--no-agreement", "--sts", f"Pairs={other}") == 1
    assert "Pairs: OTHER TEXTS" in capsys.readouterr().out


def test_another_precision_has_figures_of_its_own(bundle: Path, sts: Path, beir: Path) -> None:
    sets = ("--sts", f"Pairs={sts}", "--beir", f"Half={beir}@dev", "--precision", "float32,bfloat16")
    assert profile(bundle, "--no-latency", "--no-agreement", *sets) == 0
    quality = read_manifest(bundle).quality
    assert quality is not None
    (variant,) = quality.variants
    assert (variant.dtype, variant.output_type, set(variant.sets)) == ("bfloat16", "float", {"Pairs", "Half"})
    assert variant.sets["Half"].queries.keys() == {1, 2, 4}
    assert quality.tasks("queries", "bfloat16") == ("search",)


def test_what_is_made_of_a_bundle_is_compared_with_what_the_bundle_was_made_of(bundle: Path, sts: Path) -> None:
    other = Path(shutil.copytree(bundle, bundle.parent / "other"))
    sets = ("--no-latency", "--no-agreement", "--sts", f"Pairs={sts}")
    assert profile(bundle, *sets, "--base", other) == 0
    quality = read_manifest(bundle).quality
    assert quality is not None
    assert quality.reference == "tiny, the original, at full depth", "a bundle goes by its own name, not its source's"
    assert quality.sets["Pairs"].reference_score == quality.sets["Pairs"].scores[4][32]
    told = json.loads((bundle / "manifest.json").read_text())
    told["quality"]["reference"] = "the source at full depth"
    told["quality"]["sets"]["Pairs"]["reference_score"] = 80.0
    (bundle / "manifest.json").write_text(json.dumps(told))
    assert profile(other, *sets, "--base", bundle) == 0
    quality = read_manifest(other).quality
    assert quality is not None
    assert (quality.reference, quality.sets["Pairs"].reference_score) == ("the source at full depth", 80.0)


def test_a_source_of_the_same_name_is_told_apart_and_what_goes_is_told(
    bundle: Path, sts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where ./a/model is trained into ./b/model."""
    base = tiny_sentence_model(tmp_path / "base", "bert", layers=1)
    provenance = json.loads((bundle / "manifest.json").read_text())["provenance"]
    edit_json(bundle / "manifest.json", provenance={**provenance, "source": "tiny"})
    words = ("--no-latency", "--no-agreement", "--sts")
    assert profile(bundle, *words, f"Own={sts}") == 0
    capsys.readouterr()
    assert profile(bundle, *words, f"Pairs={sts}", "--base", base) == 0
    told = capsys.readouterr().out
    assert "no longer in it: made up, Own, as shares of tiny at full depth in float32; measure them again" in told
    quality = read_manifest(bundle).quality
    assert quality is not None
    assert (quality.reference, set(quality.sets)) == ("tiny, the original, at full depth", {"Pairs"})
    assert "and the source model in BASE, by\n" in (bundle / "README.md").read_text()
    assert profile(bundle, *words, f"Other={sts}") == 1, "its own full depth is another measure"
    assert "its share is of tiny, the original, at full depth; name that" in capsys.readouterr().err


def test_a_card_keeps_everything_but_its_scores(bundle: Path, sts: Path) -> None:
    (bundle / "README.md").write_text("# tiny\n\n## Scores\n\nOld ones.\n\n## Licence\n\nMIT.\n")
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"].pop("README.md", None)
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert profile(bundle, "--no-latency", "--no-agreement", "--sts", f"Pairs={sts}") == 0
    card = (bundle / "README.md").read_text()
    assert card.startswith("# tiny\n\n## Scores\n\nShares of the score of tiny at full depth ")
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
        ((bundle, "--sts", f"A={sts}", "--beir", f"A={sts.parent}"), "corpus.jsonl"),
        ((bundle, "--sts", f"A={sts}", "--sts", f"A={sts}"), "two sets are called A"),
        ((bundle, "--sts", f"Größe={sts}"), "--sts 'Größe': a set's name is 1 to 64 letters of ASCII"),
        ((bundle, "--sts", f"{'a' * 33}:A={sts}"), f"--sts {'a' * 33!r}: a task is 1 to 32 lower-case letters"),
        ((bundle, "--sts", f"A={sts}", "--tell-only", "B"), "--tell-only B: the sets are A"),
        (("--url", "http://127.0.0.1:9"), "it needs --sts or --beir"),
        (("--url", "http://127.0.0.1:9", "--sts", sts), "http://127.0.0.1:9: "),
        ((bundle, "--no-latency", "--sts", few), "row 1: expected the columns score, sentence1, sentence2"),
        ((bundle, "--no-latency", "--beir", tmp_path), "corpus.jsonl"),
        ((bundle, "--no-latency", "--text", few), "1 distinct texts; 20 are needed"),
        ((bundle, "--no-latency", "--no-agreement", "--sts", alike), "5 rows with 1 different scores"),
        ((bundle, "--no-latency", "--sts", short), "row 2: has 2 fields; expected 3"),
        ((bundle, "--no-latency", "--beir", bare), "row 1: has 2 fields; expected query-id, corpus-id, score"),
        ((bundle, "--picture", tmp_path), "must be the name of a file that ends in .png"),
        ((bundle, "--no-latency", "--texts", "19"), "19 texts tell too little; at least 20 are needed"),
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
    measured: Path, sts: Path, beir: Path, start_server: ServerFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start_server(measured)
    sets = ("--sts", f"Pairs={sts}", "--beir", f"Half={beir}@dev")
    assert profile("--url", server.url, *sets) == 0
    told = capsys.readouterr().out
    for table in ("Pairs, similarity", "Half, search", "Half, queries on full-depth documents"):
        assert f"{table}, through the server in float32: reproduced; of 9 figures" in told
    assert profile("--url", server.url, "--sts", f"Pairs={sts}", "--exits", "3") == 1
    assert "--exits: the server has 1, 2, 4. Given: 3" in capsys.readouterr().err


def test_what_a_server_gives_at_its_dtype_is_written_beside_the_rest(
    measured: Path, sts: Path, beir: Path, tmp_path: Path, start_server: ServerFactory
) -> None:
    copy = Path(shutil.copytree(measured, tmp_path / "copy"))
    server = start_server(copy, "--dtype", "int8")
    assert "x-strata-quality" not in server.client.post("/embed", json={"inputs": "a"}).headers, "not measured yet"
    sets = ("--sts", f"Pairs={sts}", "--beir", f"Half={beir}@dev")
    assert profile(copy, "--url", server.url, *sets) == 0
    quality = read_manifest(copy).quality
    assert quality is not None
    (variant,) = quality.variants
    assert (variant.dtype, set(variant.sets)) == ("int8", {"Pairs", "Half"})
    answer = start_server(copy, "--dtype", "int8").client.post("/embed", json={"inputs": "a", "task": "search"})
    worth = quality.worth("search", 4, 32, dtype="int8")
    assert worth is not None
    assert answer.headers["x-strata-quality"] == f"{worth.share:.4f}"


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
    assert "through the server in float32: reproduced; of 2 figures" in capsys.readouterr().out


def test_the_command_is_cheap_to_import() -> None:
    check = (
        "import sys, strata.loadtest.profile.command, strata.model_store.bundle.manifest; "
        "print([m for m in ('torch', 'transformers', 'numpy', 'scipy', 'matplotlib', 'httpx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
