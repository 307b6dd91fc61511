"""`strata loadtest gpu` runs from end to end; on a CPU, at small sizes."""

from __future__ import annotations

import subprocess
import sys

SECTIONS = ("machine", "checks", "speed", "beside", "server", "variants")


def test_every_section_runs_on_a_cpu() -> None:
    command = [
        "loadtest",
        "gpu",
        "--device",
        "cpu",
        "--batch",
        "16",
        "--seconds",
        "0.02",
        "--dtypes",
        "float32",
        "bfloat16",
        "--sections",
        *SECTIONS,
    ]
    done = subprocess.run([sys.executable, "-P", "-m", "strata.app.cli", *command], capture_output=True, text=True)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert "failed" not in done.stdout
    for told in ("matrix product", "worst cosine alone", "of a shape never seen", "HTTP: requests of 32"):
        assert told in done.stdout
    assert "MISSED" not in "".join(line for line in done.stdout.splitlines() if "cosine" in line)
