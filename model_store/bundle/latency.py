"""How long a bundle takes on this machine, as `strata profile` measured it: a file in the user's cache."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError

from strata.model_store.bundle.strict import Strict
from strata.model_store.bundle.writing import write_text


class Timing(Strict):
    """One kind of batch, run alone on one worker: seconds from handing it over to its answer, best of three."""

    layers: PositiveInt
    texts: PositiveInt
    tokens: PositiveInt  # of each text
    seconds: PositiveFloat


class LatencyProfile(Strict):
    """Timings of one bundle with one kind of engine on one machine."""

    model: str
    revision: Annotated[str, Field(pattern="^[0-9a-f]{12}$")]
    machine: str
    backend: str
    dtype: str
    device: str
    threads: PositiveInt  # of the worker
    timings: tuple[Timing, ...]

    def save(self) -> Path:
        """Write it to the cache, over an earlier one of the same bundle and engine."""
        file = _file(self.revision, self.backend, self.dtype, self.device, self.threads)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, self.model_dump_json(indent=1) + "\n")
        return file


def load(revision: str, backend: str, dtype: str, device: str, threads: int) -> LatencyProfile | None:
    """What was measured of a bundle with this engine on this machine; None where nothing readable is."""
    try:
        found = LatencyProfile.model_validate_json(_file(revision, backend, dtype, device, threads).read_bytes())
    except (OSError, ValidationError):
        return None
    return found if found.machine == machine() else None


def known(revision: str) -> list[LatencyProfile]:
    """Everything that was measured of a bundle on this machine, whatever the engine, the newest first."""
    files = sorted(cache_folder().glob(f"{revision}-*.json"), key=lambda file: file.stat().st_mtime, reverse=True)
    found = []
    for file in files:
        try:
            profile = LatencyProfile.model_validate_json(file.read_bytes())
        except (OSError, ValidationError):
            continue
        if profile.machine == machine() and profile.timings:
            found.append(profile)
    return found


def cache_folder() -> Path:
    """``strata/profiles`` in the XDG cache folder. It need not exist. Raises OSError where there is no home folder."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "strata" / "profiles"
    except RuntimeError as error:
        raise FileNotFoundError("this user has no home folder; name one for caches in $XDG_CACHE_HOME") from error


def machine() -> str:
    """Processor and cores, e.g. "AMD EPYC 9B45, 2 cores": timings of another one say nothing here."""
    try:
        names = re.findall(
            r"^model name\s*:\s*(.+)$",
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace"),
            re.MULTILINE,
        )
    except OSError:
        names = []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{names[0] if names else platform.machine()}, {cores} cores"


def _file(revision: str, backend: str, dtype: str, device: str, threads: int) -> Path:
    return cache_folder() / f"{revision}-{backend}-{dtype}-{device}-{threads}.json"
