"""Users without a home, with one they may not enter, or with folders they may not read: the default model is served."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from strata.model_store.bundle.registry import DEFAULT
from tests.conftest import SMALL, STRATA
from tests.endure.conftest import until

_ALL_RIGHTS = "-dac_override,-dac_read_search"  # by which root reads everything
PLAIN = ("setpriv", "--bounding-set", _ALL_RIGHTS, "--inh-caps", _ALL_RIGHTS) if os.getuid() == 0 else ()

pytestmark = pytest.mark.skipif(bool(PLAIN) and shutil.which("setpriv") is None, reason="root needs setpriv for this")


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A folder with a bundle's manifest in it that nobody may enter."""
    folder = tmp_path / "store" / "closed"
    folder.mkdir(parents=True)
    (folder / "manifest.json").touch()
    folder.chmod(0)
    yield folder
    folder.chmod(0o700)


def environment(home: str | None, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_DATA_HOME")}
    return kept | ({} if home is None else {"HOME": home}) | more


def test_the_default_model_is_served(closed: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    def told(log: Path) -> object:
        return re.search(r" ready |strata serve:|Error", log.read_text())

    started: dict[Path, subprocess.Popen[bytes]] = {}
    small = ("--model", str(tiny_bundle))  # for homes that differ in nothing else
    for home, model in ((None, ()), ("", small), ("/nowhere", small), (str(closed), ())):
        log = tmp_path / f"{len(started)}.log"
        with log.open("wb") as sink:
            command = [*PLAIN, *STRATA, "serve", *model, "--port", "0", *SMALL]
            started[log] = subprocess.Popen(command, stderr=sink, env=environment(home))
    try:
        for log in started:
            until(partial(told, log), 60)
            assert " ready " in log.read_text(), log.read_text()
    finally:
        for process in started.values():
            process.terminate()
        assert [process.wait(timeout=20) for process in started.values()] == [0] * 4


def test_a_folder_that_may_not_be_read_is_named_and_passed_over(closed: Path) -> None:
    env = environment("/nowhere", STRATA_MODEL_STORE=str(closed.parent))
    command = [*PLAIN, *STRATA, "models", "list"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    assert DEFAULT in done.stdout
    assert closed.name in done.stdout + done.stderr
