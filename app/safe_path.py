"""How a module of ours is started as a process of its own: nothing is imported from the working directory."""

from __future__ import annotations

import os
import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """This Python running ``module``; ``-P`` keeps the working directory off its import path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def safe_environment() -> dict[str, str]:
    """This environment, without what else puts the working directory on the path: an entry that is no absolute path."""
    kept = dict(os.environ)
    if path := kept.pop("PYTHONPATH", ""):
        entries = [entry for entry in path.split(os.pathsep) if os.path.isabs(entry) and entry != os.getcwd()]
        if entries:
            kept["PYTHONPATH"] = os.pathsep.join(entries)
    return kept
