"""What a process and all its descendants take: memory, CPU time, mapped libraries (Linux)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(slots=True, frozen=True)
class Memory:
    """Megabytes (10^6) resident in a family of processes."""

    rss: float  # summed; a page shared by two processes counts twice
    pss: float  # each shared page divided among those that share it: what the family really takes
    processes: int


def family(pid: int) -> list[psutil.Process]:
    """The process and its descendants."""
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def measure_memory(pid: int) -> Memory:
    """Memory of the family now."""
    rss = pss = 0
    members = family(pid)
    for process in members:
        for line in _proc(process.pid, "smaps_rollup").splitlines():
            name, _, value = line.partition(":")
            if name in ("Rss", "Pss"):
                size = int(value.split()[0]) * 1024
                rss, pss = (rss + size, pss) if name == "Rss" else (rss, pss + size)
    return Memory(rss / 1e6, pss / 1e6, len(members))


def cpu_seconds(pid: int) -> float:
    """CPU time of the family so far, user and system."""
    times = [process.cpu_times() for process in family(pid)]
    return float(sum(t.user + t.system for t in times))


def own_cpu_seconds(pid: int) -> float:
    """CPU time of this process alone so far, to the nanosecond: Linux's clock of it (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def has_mapped(pid: int, library: str) -> list[int]:
    """Those of the family that have a file mapped whose name holds ``library``."""
    return [process.pid for process in family(pid) if library in _proc(process.pid, "maps")]


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""  # ended in between: it holds nothing
