"""What the Hugging Face hub leaves on a disk: snapshots named by a hash, pointers in place of files."""

from __future__ import annotations

import os
import re
from pathlib import Path

_NAME = r"[\w.-]+/[\w.-]+"
_ADDRESS = re.compile(rf"(?:https?:/+)?(?:www\.)?(?:huggingface\.co|hf\.co)/({_NAME}).*|hf:/+({_NAME}).*")
_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_LIMIT = 1024  # bytes; a pointer has about 130

POINTER_TOLD = "is a Git LFS pointer, not the file itself; fetch it, in the folder: git lfs pull"


def is_pointer(path: Path) -> bool:
    """Whether Git left a note of where the file is, in place of the file. Raises OSError."""
    if path.stat().st_size > _POINTER_LIMIT:
        return False
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def repository(folder: Path) -> str | None:
    """The hub name, e.g. "thenlper/gte-small", of a snapshot in a hub cache; None for any other folder."""
    parts = folder.resolve().parts[-3:]
    if len(parts) < 3 or parts[1] != "snapshots" or not parts[0].startswith("models--"):
        return None
    return "/".join(parts[0].split("--")[1:])


def snapshot(folder: Path) -> Path:
    """``folder``, or for a repository of a hub cache (``models--...``) the snapshot that its main branch is at."""
    if not (folder / "snapshots").is_dir() or (folder / "config.json").exists():
        return folder
    main = folder / "refs" / "main"
    commits = [main.read_text(encoding="utf-8").strip()] if main.is_file() else os.listdir(folder / "snapshots")
    found = folder / "snapshots" / commits[0] if len(commits) == 1 else folder
    return found if found.is_dir() else folder


def absent(word: str) -> str:
    """Why ``word`` names no folder of a model, and the way on."""
    path = Path(word).expanduser()
    if path.is_file():
        return f"{word}: is a file; name the folder that holds the model's config.json and model.safetensors"
    address = _ADDRESS.fullmatch(word)
    name = (address[1] or address[2]) if address else word
    cached = snapshot(_cache() / f"models--{name.replace('/', '--')}")
    if cached.is_dir():
        return f"{word}: not a folder. The hub cache of this machine holds a model of that name; name it: {cached}"
    if address or (re.fullmatch(_NAME, word) and not path.parent.exists()):
        own = name.rpartition("/")[2]
        return (
            f"{word}: not a folder. If it is a name on a hub: Strata downloads nothing by itself. Fetch the model "
            f"first (hf download {name} --local-dir {own}), then name that: strata models add {own} --source {name}"
        )
    return f"{word}: not a folder; name the one that holds the model's config.json and model.safetensors"


def _cache() -> Path:
    """Where huggingface_hub keeps what it has downloaded."""
    given = os.environ.get("HF_HUB_CACHE")
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    try:
        return Path(given or Path(home) / "hub").expanduser()
    except RuntimeError:  # no home folder, so no cache in it
        return Path(os.devnull) / "hub"
