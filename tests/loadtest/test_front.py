"""`strata loadtest front` measures the front that ships, before a pool that has all that it asks of one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.conftest import STRATA


def test_each_load_is_measured(tiny_bundle: Path) -> None:
    command = [*STRATA, "loadtest", "front", "--rounds", "1", "--requests", "40", "--json", "-", "--", "--model"]
    found = subprocess.run([*command, str(tiny_bundle)], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr
    figures = json.loads(found.stdout)["figures"]
    assert [figure["at_most"] for figure in figures] == [0.35, 0.15, 0.35, 0.15, 0.1, 14.0, 9.5]
    assert all(0 < figure["value"] < 100 for figure in figures)
