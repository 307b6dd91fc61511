"""Which GPUs there are, and whether the torch installed can use one; the front must not import torch to ask."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path


def torch_has_cuda() -> bool:
    """Whether the torch that is installed was built for CUDA, as its own version file says."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return False
    try:
        told = (Path(spec.origin).parent / "version.py").read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"^cuda\b.*=\s*['\"]\d", told, re.MULTILINE) is not None


def gpu_count(devices: Path = Path("/dev"), driver: Path = Path("/proc/driver/nvidia/version")) -> int:
    """GPUs that this process may use; 0 without a driver."""
    if not driver.exists():
        return 0
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return len([name for name in named.split(",") if name.strip() not in ("", "-1")])
    found = [path for path in devices.glob("nvidia*") if re.fullmatch(r"nvidia\d+", path.name)]
    return max(len(found), 1)  # a sandbox may hide the nodes of a driver that answers
