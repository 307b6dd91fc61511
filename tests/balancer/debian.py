"""Programs of Debian packages for tests: the one on the PATH, or the package unpacked beside it and not installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

_TIMEOUT_S = 120
_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin"))


class Unavailable(Exception):  # noqa: N818 - reads as what happened
    """The program cannot be had here; the message says why."""


class Program(NamedTuple):
    """How to run a program."""

    path: str
    env: dict[str, str]

    def run(self, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run it to its end; the output is kept together."""
        command = [self.path, *map(str, arguments)]
        return subprocess.run(
            command,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
            cwd=cwd,
        )


def program(name: str, package: str, folder: Path) -> Program:
    """``name`` from the PATH, else from Debian's ``package``, unpacked in ``folder``. Raises Unavailable."""
    if found := shutil.which(name, path=_PATH):
        return Program(found, dict(os.environ))
    root = folder / package
    if not root.exists():
        _unpack(package, folder, root)
    paths = [path for path in root.rglob(name) if path.parent.name in ("bin", "sbin")]
    if not paths:
        raise Unavailable(f"the package {package} holds no {name}")
    libraries = {str(path.parent) for path in root.rglob("*.so*")}
    return Program(str(paths[0]), {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(sorted(libraries))})


def _unpack(package: str, folder: Path, root: Path) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Unavailable(f"no {package} on the PATH, and this is no Debian to get it from")
    own = folder / "apt"
    for part in ("lists/partial", "cache/archives/partial"):
        (own / part).mkdir(parents=True, exist_ok=True)
    ours = ["-o", f"Dir::State::lists={own}/lists", "-o", f"Dir::Cache={own}/cache", "-o", "APT::Sandbox::User="]
    try:
        debs = _download(package, folder, [])
    except subprocess.SubprocessError:  # no lists of packages on this machine, or old ones
        try:
            _apt(ours, "update", cwd=folder)
            debs = _download(package, folder, ours)
        except subprocess.SubprocessError as error:
            said = getattr(error, "stdout", None) or str(error)
            raise Unavailable(f"{package} cannot be had from Debian: {said.strip()[-300:]}") from error
    unpacked = root.with_suffix(".unpacking")
    shutil.rmtree(unpacked, ignore_errors=True)
    for deb in debs:
        subprocess.run(["dpkg-deb", "-x", deb, unpacked], check=True, timeout=_TIMEOUT_S)
    unpacked.rename(root)


def _download(package: str, folder: Path, options: list[str]) -> list[Path]:
    """The package and those of its dependencies that are not installed."""
    plan = _apt(options, "install", "--simulate", "--no-install-recommends", package, cwd=folder)
    names = [line.split()[1] for line in plan.splitlines() if line.startswith("Inst ")]
    debs = folder / f"{package}-debs"
    debs.mkdir(exist_ok=True)
    _apt(options, "download", *names, cwd=debs)
    return sorted(debs.glob("*.deb"))


def _apt(options: list[str], *arguments: str, cwd: Path) -> str:
    return subprocess.run(
        ["apt-get", "--quiet", *options, *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_TIMEOUT_S,
        check=True,
    ).stdout
