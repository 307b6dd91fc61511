"""Files that others will read: UTF-8 and readable by all, whatever locale and umask they are written under."""

from __future__ import annotations

import json
from pathlib import Path

FILE_MODE, FOLDER_MODE = 0o644, 0o755  # a server may run as another user


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, whole or not at all."""
    draft = path.with_name(f"{path.name}.partial")
    draft.write_text(text, encoding="utf-8")
    draft.chmod(FILE_MODE)
    draft.replace(path)


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def make_folder(path: Path) -> None:
    """Make ``path`` and the folders above it that are missing; those that are there stay as they are."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        folder.chmod(FOLDER_MODE)


def share(folder: Path) -> None:
    """Let everybody read ``folder`` and all that is in it."""
    folder.chmod(FOLDER_MODE)
    for path in folder.rglob("*"):
        path.chmod(FOLDER_MODE if path.is_dir() else FILE_MODE)
