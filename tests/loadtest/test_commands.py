"""The commands as a user types them, small, against a real server."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from strata.app.cli import main
from strata.loadtest import command
from strata.loadtest.family import has_mapped, measure_memory
from tests.conftest import RunningServer

_SMALL_SERVER = ["--backend", "onnxruntime", "--dtype", "float32", "--workers", "1", "--threads", "1"]


def test_depth_measures_a_running_server(
    server: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "depth.json"
    options = ["--rounds", "2", "--requests", "2", "--singles", "8", "--json", str(file)]
    assert main(["loadtest", "depth", "--url", server.url, *options]) == 0
    written = json.loads(file.read_text())
    assert written["command"] == "depth"
    assert written["machine"]["cores"] >= 1
    assert set(written["rounds"]["single texts, 1 connection"]) == {"4", "2", "1"}
    shown = capsys.readouterr().out
    assert all(figure["name"] in shown for figure in written["figures"])


def test_overhead_starts_its_own_server_with_the_options_given(tiny_bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "overhead.json"
    options = ["--rounds", "1", "--turn-texts", "64", "--json", str(file)]
    serve = ["--", "--model", str(tiny_bundle), *_SMALL_SERVER]
    assert main(["loadtest", "overhead", *options, *serve]) == 0
    written = json.loads(file.read_text())
    assert "backend onnxruntime, dtype float32" in written["facts"]["engine"]
    assert all(figure["value"] > 0 for figure in written["figures"])


def test_a_server_that_does_not_start_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["loadtest", "depth", "--", "--model", "no-such-model"]) == 1
    assert "no-such-model" in capsys.readouterr().err


def test_the_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, argparse, strata.loadtest.command as c; c.add_arguments(argparse.ArgumentParser());"
        "print([m for m in ('numpy', 'psutil', 'httpx', 'torch', 'strata.app.engine.pool')"
        " if m in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


def test_the_help_says_which_benchmarks_take_a_running_server() -> None:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    assert parser._subparsers is not None
    benchmarks = parser._subparsers._group_actions[0].choices
    assert isinstance(benchmarks, dict)
    taking = [name for name, each in benchmarks.items() if "--url" in each.format_help()]
    assert sorted(taking) == ["depth", "search", "slo"]
    assert "depth, slo and search also take the --url of a running one" in (parser.description or "")


def test_memory_is_that_of_the_whole_family(server: RunningServer) -> None:
    memory = measure_memory(server.process.pid)
    assert memory.processes >= 2
    assert 0 < memory.pss <= memory.rss
    assert has_mapped(server.process.pid, "libtorch") == []


def test_told_to_end_it_stops_the_server_it_started(tiny_bundle: Path) -> None:
    told_to_end = [sys.executable, "-P", "-m", "strata.app.cli", "loadtest", "depth", "--rounds", "1000"]
    process = subprocess.Popen(
        [*told_to_end, "--", "--model", str(tiny_bundle), *_SMALL_SERVER], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "warm-up" in process.stderr.readline()  # the server is up
    server = psutil.Process(process.pid).children()[0]
    process.terminate()
    assert process.wait(30) == 143
    assert not server.is_running()
