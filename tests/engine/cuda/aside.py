"""A program in processes of their own, all at once: there Triton compiles, which takes one core; here it interprets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

# Forks once it has imported what takes seconds to import.
_FORKING = """
import json, os, sys, traceback
import torch
import triton.compiler
import strata.app.engine.backends.cuda.backend
import strata.loadtest.gpu.product_gelu

program, started = sys.stdin.read(), {}
for name, arguments in json.loads(sys.argv[1]).items():
    started[name] = os.fork()
    if started[name] == 0:
        out = os.open(name + ".txt", os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.argv[1:] = arguments
        status = 1
        try:
            exec(program, {"__name__": "__main__"})
            status = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(status)
print(json.dumps({name: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for name, pid in started.items()}))
"""


class Ended(NamedTuple):
    """What became of one of them."""

    status: int
    told: str


def run(program: str, arguments: Mapping[str, Sequence[str]], folder: Path) -> dict[str, Ended]:
    """The program, once for each arguments, by name; ``folder`` is for what they compile and print."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(folder / "cache")
    command = [sys.executable, "-P", "-c", _FORKING, json.dumps(arguments)]
    done = subprocess.run(command, env=environment, cwd=folder, input=program, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return {name: Ended(status, (folder / f"{name}.txt").read_text()) for name, status in found.items()}
