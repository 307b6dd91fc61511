"""Every benchmark of an installation without extras: it has what it needs, or says in a line what to install."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from strata.loadtest import command

ROOT = Path(__file__).parents[2]
# Begins every benchmark where these packages are not to be found, up to the first step of what it would do.
_BEGIN = """
import contextlib, io, json, sys
for package in sys.argv[1].split(","):
    sys.modules[package] = None
from strata.app.cli import main
from strata.loadtest import command

async def begun(measuring):
    measuring.close()
    return []

command._stoppable = begun
found = {}
for name in command._BENCHMARKS:
    with contextlib.redirect_stderr(io.StringIO()) as told, contextlib.redirect_stdout(io.StringIO()):
        status = main(["loadtest", name])
    found[name] = status, told.getvalue()
print(json.dumps(found))
"""


def extra_packages() -> set[str]:
    """What the extras for measuring bring, and an installation without them has not."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = {re.split(r"[^\w-]", line)[0] for line in (*extras["loadtest"], *extras["train"])}
    return {name.replace("-", "_") for name in names} - {"tqdm"}  # which transformers needs, too


def test_a_benchmark_without_its_packages_says_in_a_line_what_to_install(tmp_path: Path) -> None:
    run = [sys.executable, "-P", "-c", _BEGIN, ",".join(extra_packages())]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert set(found) == set(command._BENCHMARKS)
    for name, (status, told) in found.items():
        line = rf"strata loadtest {name} needs more packages \(\w+\): pip install 'strata-embed\[loadtest\]'\n"
        assert status == 0 or re.fullmatch(line, told), (name, told)
    assert {name for name, (status, _) in found.items() if status == 0} >= {"depth", "overhead", "diagrams"}
    assert not list(tmp_path.iterdir()), "something was made"


def test_no_package_of_the_extra_is_looked_for_later() -> None:
    """When a server may be running already, or a folder be made."""
    later = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file in (ROOT / "loadtest").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom) and node.col_offset
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
        if name.split(".")[0] in extra_packages() - {"sentence_transformers"}  # beside whose speed an engine's is put
    ]
    assert not later
