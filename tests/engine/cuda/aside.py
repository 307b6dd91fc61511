"""Programs in processes of their own, all at once: there Triton compiles, which takes one core; here it interprets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def started(programs: Mapping[str, Sequence[str]], folder: Path) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """A process by name for each program and its arguments; ``folder`` is for what they compile."""
    processes = {}
    for name, program in programs.items():
        environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        environment["TRITON_CACHE_DIR"] = str(folder / name)
        processes[name] = subprocess.Popen(
            [sys.executable, "-P", "-c", *program],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    yield processes
    for process in processes.values():
        process.kill()
        process.wait()


def ended_well(process: subprocess.Popen[str]) -> None:
    """Wait for one of them; it must have found nothing wrong."""
    out, err = process.communicate()
    print(out)
    assert process.returncode == 0, err[-3000:]
