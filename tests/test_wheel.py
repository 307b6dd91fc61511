"""After `pip install`: one new import name, whose front and engine come from one place, whatever lies around."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import SMALL, RunningServer

ROOT = Path(__file__).parents[1]
TRAP = "raise SystemExit('imported from the working directory: ' + __file__)\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it; what the wheel needs it borrows from this one."""
    environment = tmp_path_factory.mktemp("wheel") / "environment"
    venv.create(environment)
    python = environment / "bin" / "python"
    (packages,) = (environment / "lib").glob("python*/site-packages")
    before = set(packages.iterdir())
    pip = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-compile", str(ROOT)], check=True, timeout=300)
    new = {path.name for path in set(packages.iterdir()) - before}
    assert {name for name in new if not name.endswith(".dist-info")} == {"strata"}
    borrowed = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return environment


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project like any other: with packages and files of the names that everybody uses."""
    folder = tmp_path / "project"
    for name in ("app", "model_store", "loadtest"):
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(TRAP)
    for name in ("logging", "numpy", "json", "argparse", "typing", "uvicorn", "torch", "sitecustomize"):
        (folder / f"{name}.py").write_text(TRAP)
    return folder


@pytest.fixture
def served(installed: Path, project: Path, tiny_bundle: Path, tmp_path: Path) -> Iterator[RunningServer]:
    """A server started in the project."""
    server = RunningServer(
        tiny_bundle, tmp_path / "log", *SMALL, strata=[str(installed / "bin" / "strata")], folder=project
    )
    try:
        yield server.await_ready()
    finally:
        server.stop()


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def test_a_project_of_the_same_names_is_neither_run_nor_overwritten(served: RunningServer, project: Path) -> None:
    answer = served.client.post("/embed", json={"inputs": "beside your own app"})
    assert answer.status_code == 200, served.text()
    assert "imported from the working directory" not in served.text()
    assert not list(project.rglob("__pycache__"))


def test_the_version_tells_the_place(installed: Path, project: Path) -> None:
    bin_ = installed / "bin"
    module = ("python", "-P", "-m", "strata.app.cli", "version")
    for name, *arguments in (("strata", "--version"), module, ("python", "-m", "strata", "version")):
        command = [str(bin_ / name), *arguments]
        told = subprocess.run(
            command, cwd=project, env=_plain_environment(), capture_output=True, text=True, timeout=60
        )
        assert told.returncode == 0, told.stderr
        assert re.fullmatch(r"strata \d+\.\d+\.\d+ \((.+)\)\n", told.stdout)
        assert str(installed.resolve()) in told.stdout


def test_an_engine_of_another_installation_is_refused(installed: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    """The front is made to come from the checkout, as an editor or a path variable may do; the engine does not."""
    front = (
        f"import sys; sys.path.insert(0, {str(ROOT / '.package')!r}); from strata.app.cli import main; sys.exit(main())"
    )
    flags = ("--model", str(tiny_bundle), "--port", "0", *SMALL)
    command = [str(installed / "bin" / "python"), "-P", "-c", front, "serve", *flags]
    told = subprocess.run(
        command, cwd=tmp_path, env=_plain_environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert told.returncode != 0
    assert "the engine's code is at" in told.stderr
