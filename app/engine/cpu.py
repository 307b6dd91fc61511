"""How many cores this process may really use: the container's quota, the affinity mask, the machine."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_cores(cgroup_root: Path = Path("/sys/fs/cgroup"), proc_cgroup: Path = Path("/proc/self/cgroup")) -> int:
    """Whole cores this process may use, at least 1: the least of the affinity mask and every cgroup quota above it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quotas = [quota for quota in (_v2_quota(cgroup_root, proc_cgroup), _v1_quota(cgroup_root, proc_cgroup)) if quota]
    # A quota of 1.5 cores runs two threads badly and one well: round down, but never to none.
    return max(1, min([cores, *(math.floor(quota) for quota in quotas)]))


def byte_steps(info: Path = Path("/proc/cpuinfo")) -> int:
    """Steps of int8 weights on either side: 127 where the CPU multiplies bytes exactly (VNNI, Arm).

    63 on older x86, where sums of byte products saturate.
    """
    try:
        flags = info.read_text(encoding="utf-8")
    except OSError:
        return 63
    return 63 if "avx2" in flags and "vnni" not in flags else 127


def _v2_quota(root: Path, proc_cgroup: Path) -> float | None:
    """Least ``cpu.max`` from this process's cgroup up to the root (cgroup v2)."""
    own = _own_path(proc_cgroup, "")
    quotas = []
    for folder in _upwards(root, own):
        try:
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        except (OSError, ValueError):
            continue
        if quota != "max":
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def _v1_quota(root: Path, proc_cgroup: Path) -> float | None:
    """Least ``cpu.cfs_quota_us`` share from this process's cgroup up to the root (cgroup v1)."""
    own = _own_path(proc_cgroup, "cpu")
    quotas = []
    for controller in ("cpu", "cpu,cpuacct"):
        for folder in _upwards(root / controller, own):
            try:
                quota = int((folder / "cpu.cfs_quota_us").read_text(encoding="ascii"))
                period = int((folder / "cpu.cfs_period_us").read_text(encoding="ascii"))
            except (OSError, ValueError):
                continue
            if quota > 0 and period > 0:
                quotas.append(quota / period)
    return min(quotas, default=None)


def _own_path(proc_cgroup: Path, controller: str) -> str:
    """This process's path in the hierarchy of ``controller`` ("" names the unified one), "/" where it is not said."""
    try:
        lines = proc_cgroup.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return "/"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return "/"


def _upwards(root: Path, path: str) -> list[Path]:
    folder = root / path.strip("/")
    chain = [folder, *folder.parents]
    # Inside a container the path may name the host's hierarchy, of which only the root is mounted.
    return [f for f in chain if f.is_relative_to(root)]
