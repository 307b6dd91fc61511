"""What README and guides tell to type is typed, in a folder of its own: small models, short runs, a real server."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from strata.app.cli import main
from tests.conftest import SMALL, RunningServer
from tests.tiny_models import texts, tiny_encoder, tiny_sentence_model

ROOT = Path(__file__).parents[1]
FILES = ("README.md", *(f"app/docs/{file.name}" for file in sorted((ROOT / "app" / "docs").glob("*.md"))))
SHIPPED = "strata-gte-small-2d"

# Beginnings of commands that are not run here, and what holds them instead.
ELSEWHERE = {
    "pip install": "tests/test_wheel.py, and .ci/run in a fresh environment",
    "docker ": "tests/docker, where there is an engine",
    "python3 -m venv fresh": "minutes of downloads, for a person with a clock",
    "time fresh": "likewise",
    "du -sm fresh": "likewise",
    "pytest": "this is it",
    "ruff ": "the lines beside the tests in .ci/run",
    "mypy": "likewise",
    "strata loadtest footprint": "a minute of load: tests/loadtest runs its parts",
}
# What is typed -> what is run: a tiny model and three steps instead of an hour.
SMALLER = {
    "--dims 64,128,256,768": "--dims 16,32",
    "--minutes 60": "--steps 2 --dims 8,16 --lanes 1 --quiet",
    "--minutes 8": "--steps 2 --dims 8,16 --lanes 1 --quiet",
    "--finish": "--steps 2 --dims 8,16 --lanes 1 --quiet --finish --text passages.txt --pairs pairs.tsv",
    f"strata profile {SHIPPED}": "strata profile tiny --batches 1,2 --lengths 8,16",
    "strata loadtest search": (
        f"strata loadtest search --beir folder@split --loads 0.5 --seconds 0.5 --capacity 99 -- {' '.join(SMALL)}"
    ),
    "strata plan --size": "strata plan --size --model tiny",
    "strata profile my-2d-model": "strata profile my-2d-model --batches 1 --lengths 8 --texts 20 --quiet",
}


def blocks(file: str, language: str) -> list[str]:
    """The fenced blocks of a language in a file."""
    text = (ROOT / file).read_text(encoding="utf-8")
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", text)


def commands(file: str) -> list[str]:
    """What a file tells to type, one after another."""
    lines = "\n".join(blocks(file, "sh")).replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in lines for part in line.split(" && ")]
    return [part for part in parts if part and not part.startswith("#")]


class Typed:
    """A shell of a kind: runs commands in a folder, with the server that the last `strata serve` started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: RunningServer | None = None

    def run(self, command: str) -> str:
        """Run it; what it printed, where that is known."""
        for told, small in SMALLER.items():
            command = command.replace(told, small)
        words = shlex.split(command, comments=True)
        if words[:2] == ["strata", "serve"]:
            return self._serve(words[2:])
        if words[:2] == ["strata", "train"] and "--finish" not in words:  # the guide shows two ways to the same folder
            shutil.rmtree(words[3], ignore_errors=True)
        if words[0] == "strata":
            assert main(words[1:]) == 0, command
            return ""
        return self._process(["bash", "-c", command])

    def python(self, code: str) -> str:
        """Run a program."""
        return self._process([sys.executable, "-P", "-c", code])

    def _process(self, command: list[str]) -> str:
        assert self._server, "nothing is served"
        command[-1] = command[-1].replace("127.0.0.1:8080", self._server.url.removeprefix("http://"))
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _serve(self, options: list[str]) -> str:
        self.stop()
        named = options.index("--model") if "--model" in options else None
        model = options.pop(named + 1) if named is not None else SHIPPED
        if named is not None:
            options.pop(named)
        self._server = RunningServer(Path(model), self._folder / "log.txt", *SMALL, *options, folder=self._folder)
        self._server.await_ready()
        return ""

    def stop(self) -> None:
        """End the server."""
        if self._server:
            assert self._server.stop() == 0


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> Path:
    """A folder with everything that the guides name."""
    folder = tmp_path_factory.mktemp("typed")
    for name in ("my-2d-model", "original-folder"):
        tiny_sentence_model(folder / name, "bert", layers=12, hidden=32)
    tiny_encoder(folder / "gte-small", "bert", layers=3, hidden=32)
    shutil.copytree(tiny_bundle, folder / "store" / "tiny")
    some = texts(60, seed=5, longest=8)
    for name in ("texts.txt", "passages.txt"):
        (folder / name).write_text("\n".join(some))
    beir = folder / "folder"
    beir.mkdir()
    (beir / "corpus.jsonl").write_text("\n".join(json.dumps({"_id": f"d{i}", "text": t}) for i, t in enumerate(some)))
    asked = [json.dumps({"_id": f"q{i}", "text": text}) for i, text in enumerate(some[:12])]
    (beir / "queries_split.jsonl").write_text("\n".join(asked))
    judged = [f"q{i}\td{i}\t1" for i in range(12)]
    (beir / "qrels_split.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]))
    return folder


def scored(some: list[str]) -> str:
    """Pairs with the similarity that people gave them."""
    alike = [f"{4 + i % 2}\t{text}\t{text} river" for i, text in enumerate(some[:20])]
    unlike = [f"{i % 3}\t{some[i]}\t{some[i + 20]}" for i in range(20, 40)]
    return "\n".join(["score\tsentence1\tsentence2", *alike, *unlike])


@pytest.fixture
def typed(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Typed]:
    """In that folder, with a store and a cache of its own."""
    monkeypatch.chdir(prepared)
    monkeypatch.setenv("STRATA_MODEL_STORE", str(prepared / "store"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(prepared / "cache"))
    for pause in ("search._REST_S", "open_loop._SETTLE_S"):
        monkeypatch.setattr(f"strata.loadtest.{pause}", 0.0)
    shell = Typed(prepared)
    yield shell
    shell.stop()


@pytest.mark.parametrize("file", [file for file in FILES if commands(file)])
def test_each_command_does_what_it_is_told_for(file: str, typed: Typed, prepared: Path) -> None:
    some = texts(60, seed=5, longest=8)
    pairs = [f"{text}\t{text} again" for text in some] if "training" in file else [scored(some)]
    (prepared / "pairs.tsv").write_text("\n".join(pairs))
    for command in commands(file):
        if not any(command.startswith(beginning) for beginning in ELSEWHERE):
            shown = typed.run(command)
            if command.startswith("curl"):
                assert [len(vector) for vector in json.loads(shown)] == [256, 256]
    for program in blocks(file, "python"):
        assert typed.python(program).split() == ["256"]


def test_the_tiers_of_the_readme_are_served_and_a_key_is_made(
    typed: Typed, prepared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiers,) = blocks("README.md", "toml")
    (prepared / "tiers.toml").write_text(tiers)
    typed.run("strata keys new")
    line = re.search(r'"sha256:[0-9a-f]{64}"', capsys.readouterr().out)
    assert line
    (prepared / "tiers.toml").write_text(tiers.replace("keys = []", f"keys = [{line[0]}]"))
    typed.run("strata serve --tiers tiers.toml --model tiny")


def test_what_is_left_out_is_there() -> None:
    told = [command for file in FILES for command in commands(file)]
    for beginning in ELSEWHERE:
        assert any(command.startswith(beginning) for command in told), f"no guide has {beginning!r} any more"
    assert not os.environ.get("STRATA_KEY"), "a key would be sent along"
