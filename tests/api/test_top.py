"""`strata top` beside a running server: what it says is what happened, in 80 columns or as data."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from strata.app.top.reading import Sample, Window
from strata.app.top.screen import screen
from strata.app.top.state import state
from tests.conftest import RunningServer, ServerFactory

TOP = [sys.executable, "-P", "-m", "strata.app.cli", "top"]


@pytest.fixture(scope="module")
def server(start_session_server: ServerFactory, tiny_bundle: Path) -> RunningServer:
    return start_session_server(tiny_bundle)


@pytest.fixture
def loaded(server: RunningServer) -> Iterator[RunningServer]:
    """A server that is asked about twenty times a second, at layer 2 by every second request."""
    over = time.monotonic() + 6

    def ask(layers: int) -> None:
        while time.monotonic() < over:
            httpx.post(f"{server.url}/embed", json={"inputs": ["river", "bread"], "layers": layers})
            time.sleep(0.1)

    with ThreadPoolExecutor(2) as threads:
        jobs = [threads.submit(ask, layers) for layers in (2, 4)]
        yield server
        over = 0.0
        for job in jobs:
            job.result()


def top(*flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    settings = {**os.environ, "COLUMNS": "80", **env}
    return subprocess.run([*TOP, *flags], capture_output=True, text=True, check=False, env=settings, timeout=30)


def test_it_says_what_happened(loaded: RunningServer) -> None:
    done = top("--url", loaded.url, "--once", "--every", "1.5", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["model"], told["ready"], told["url"]) == ("tiny", True, loaded.url)
    assert 4 <= told["requests_per_s"] <= 21
    assert told["texts_per_s"] == pytest.approx(2 * told["requests_per_s"], rel=0.2)
    assert set(told["layers"]) == {"1", "2", "4"}
    assert told["layers"]["2"] == pytest.approx(0.5, abs=0.15)
    assert told["layers"]["1"] == 0
    assert 0 < told["latency_ms"]["p50"] <= told["latency_ms"]["p99"]
    assert told["workers"]["alive"] == told["workers"]["wanted"] == len(told["workers"]["busy"])
    assert all(0 <= share <= 1.01 for share in told["workers"]["busy"])
    (tier,) = told["tiers"]
    assert tier["tier"] == "default"
    assert tier["in_time"] == 1.0
    assert tier["layers"] == pytest.approx(3, abs=0.3)
    assert tier["quality"] is not None


def test_a_frame_fits_80_columns_without_colour(loaded: RunningServer) -> None:
    done = top("--url", loaded.url, "--once", "--every", "0.5")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    for said in ("tiny ", "ready", "requests/s", "2 layers ####", "default", "100 %"):
        assert said in done.stdout


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch, server: RunningServer) -> None:
    text = httpx.get(f"{server.url}/metrics").text
    frame = screen(server.url, state(Window(Sample.parse(0, text), Sample.parse(1, text))))
    for settings, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        console = Console(force_terminal=True, width=80, _environ={"TERM": "xterm-256color", **settings})
        with console.capture() as shown:
            console.print(frame)
        assert ("\x1b[32m" in shown.get()) is coloured


def test_its_short_columns_are_explained(server: RunningServer) -> None:
    told = top("--url", server.url, "--once", "--every", "0.1").stdout
    assert "left: ms left at the answer before the" in told


def test_what_cannot_be_asked_is_told_in_a_line() -> None:
    for more in (("--once",), ()):
        done = top("--url", "http://127.0.0.1:9", *more)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("strata top: http://127.0.0.1:9: ")
        assert done.stderr.count("\n") == 1


def test_a_window_counts_as_prometheus_does() -> None:
    def sample(at: float, one: int, two: int, rest: int, counter: int) -> Sample:
        rows = (("0.1", one), ("0.2", two), ("+Inf", rest))
        buckets = "".join(f'h_bucket{{le="{bound}"}} {count}\n' for bound, count in rows)
        text = f"# TYPE h histogram\n{buckets}h_count {rest}\nh_sum 3\n# TYPE c counter\nc_total {counter}\n"
        return Sample.parse(at, text + '# TYPE te_x counter\nte_x{method="a"} 4\n')

    window = Window(sample(10, 0, 0, 0, 5), sample(12, 50, 100, 100, 25))
    assert window.rate("c_total") == 10
    assert window.quantile(0.5, "h") == pytest.approx(0.1)
    assert window.quantile(0.75, "h") == pytest.approx(0.15)
    assert window.quantile(1.0, "h") == pytest.approx(0.2)
    assert window.last.value("te_x", method="a") == 4
    restarted = Window(sample(10, 50, 100, 100, 25), sample(12, 1, 2, 2, 6))
    assert restarted.grew("c_total") == 6, "a counter that fell began anew"
    assert math.isnan(Window(window.last, window.last).quantile(0.5, "h"))
