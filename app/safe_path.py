"""How a module of ours is started as a process of its own: nothing is imported from the working directory."""

from __future__ import annotations

import os
import sys


def module_command(module: str, *arguments: str) -> list[str]:
    """This Python running ``module``; ``-P`` keeps the working directory off its import path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def safe_environment() -> dict[str, str]:
    """This environment, without what else puts the working directory on the path: an entry that is empty or names it.

    Folders that are named from it are what the caller chose, and are named whole.
    """
    kept = dict(os.environ)
    if path := kept.pop("PYTHONPATH", ""):
        entries = [whole for entry in path.split(os.pathsep) if (whole := os.path.abspath(entry)) != os.getcwd()]
        if entries:
            kept["PYTHONPATH"] = os.pathsep.join(entries)
    return kept
