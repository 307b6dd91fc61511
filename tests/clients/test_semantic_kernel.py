"""`semantic-kernel`, unmodified: it holds pydantic back, so it gets an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.conftest import TEXTS, Embed, same
from tests.conftest import RunningServer

pytestmark = pytest.mark.separate


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an environment that has it; a minute or so."""
    folder = tmp_path_factory.mktemp("semantic-kernel")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
    subprocess.run([folder / "bin" / "pip", "install", "--quiet", "semantic-kernel>=1.30"], check=True, timeout=600)
    return folder / "bin" / "python"


def test_it_embeds_whole_and_cut(python: Path, server: RunningServer, embed: Embed) -> None:
    script = Path(__file__).with_name("semantic_kernel_asks.py")
    command = [str(python), "-P", str(script), server.url + "/v1", json.dumps(TEXTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    whole, short = json.loads(done.stdout)
    same(whole, embed(TEXTS))
    same(short, embed(TEXTS, dim=8))
