"""Where bundles live: those that come with Strata, and the user's own store."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from strata.model_store.bundle.hub import absent
from strata.model_store.bundle.manifest import MANIFEST_NAME

DEFAULT = "strata-gte-small-2d"
STORE_VARIABLE = "STRATA_MODEL_STORE"
_BUILT_IN = Path(__file__).parents[1] / "bundles"


class NotFoundError(LookupError):
    """No bundle of that name or path; the message lists what there is."""


class Installed(NamedTuple):
    """A bundle that can be served by name."""

    name: str  # of its folder
    path: Path
    built_in: bool


def store() -> Path:
    """The user's store: ``$STRATA_MODEL_STORE``, else ``strata/models`` in the XDG data folder. It need not exist.

    Raises OSError where this user has no home folder to look in.
    """
    chosen = os.environ.get(STORE_VARIABLE)
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    try:
        return Path(chosen).expanduser() if chosen else Path(data).expanduser() / "strata" / "models"
    except RuntimeError as error:
        raise FileNotFoundError(f"this user has no home folder; name a store in ${STORE_VARIABLE}") from error


def store_fault() -> str | None:
    """Why the user's store cannot be looked into, if it is there and cannot."""
    try:
        if store().is_dir():
            os.listdir(store())
    except OSError as error:
        return str(error)
    return None


def installed() -> list[Installed]:
    """Every bundle there is, by name. One in the user's store hides a built-in one of the same name.

    A folder that cannot be looked into counts as a bundle: who opens it is told. A store that cannot has none.
    """
    found: dict[str, Installed] = {}
    for built_in in (True, False):
        with suppress(OSError):
            root = _BUILT_IN if built_in else store()
            for path in sorted(root.iterdir()) if root.is_dir() else []:
                if not path.name.startswith(".") and _may_be_bundle(path):
                    found[path.name] = Installed(path.name, path, built_in)
    return sorted(found.values())


def _may_be_bundle(path: Path) -> bool:
    try:
        return (path / MANIFEST_NAME).is_file()
    except OSError:
        return True


def find(name_or_path: str | Path) -> Path:
    """The folder of a bundle, by the name of an installed one or by path. Raises NotFoundError.

    What is written like a path (with a separator, or starting with ``.`` or ``~``) is one; a bare word is a name
    first, and a folder of the working directory only when no bundle is called so.
    """
    word = os.fspath(name_or_path)
    path = Path(word).expanduser()
    named = {bundle.name: bundle.path for bundle in installed()}
    is_path = isinstance(name_or_path, Path) or len(path.parts) != 1 or word[:1] in (".", "~")
    if not is_path and word in named:
        return named[word]
    if (path / MANIFEST_NAME).is_file():
        return path
    if path.is_dir():
        raise NotFoundError(
            f"{path} holds no {MANIFEST_NAME}, so it is not a bundle; make one: strata models add {path}"
        )
    known = ", ".join(named) or "none"
    raise NotFoundError(
        f"no model {word!r}; installed: {known}; others are imported with: strata models add PATH"
        + (f". {absent(word)}" if "/" in word and not path.exists() else "")
    )
