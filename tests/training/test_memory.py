"""Freed memory that a training process keeps."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Page faults of taking and freeing 64 MB for the third time on, once what came first has settled.
_FAULTS = """
import resource, sys
from strata.model_store.training.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
for turn in range(6):
    if turn == 3:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(b"x") * (64 << 20)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the choice is glibc's")
def test_memory_once_freed_is_not_asked_for_again() -> None:
    kept, anew = (
        int(subprocess.run([sys.executable, "-c", _FAULTS, way], capture_output=True, check=True).stdout)
        for way in ("kept", "anew")
    )
    assert kept < 100 < 10_000 < anew
