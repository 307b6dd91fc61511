"""`strata loadtest gpu` runs from end to end; on a CPU, at small sizes."""

from __future__ import annotations

import subprocess
import sys


def test_its_sections_run_on_a_cpu() -> None:
    options = ("--device", "cpu", "--batch", "8", "--seconds", "0.01", "--dtypes", "bfloat16")
    command = ("loadtest", "gpu", *options, "--sections", "machine", "checks", "speed")
    done = subprocess.run([sys.executable, "-P", "-m", "strata.app.cli", *command], capture_output=True, text=True)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert "failed" not in done.stdout
    for told in ("matrix product", "worst cosine alone", "a shape never seen"):
        assert told in done.stdout
