"""A folder that appears whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strata.model_store.bundle.writing import make_folder
from strata.model_store.importing.refusal import RefusedError


@contextmanager
def staged(destination: Path, *, replace: bool) -> Iterator[Path]:
    """A temporary folder beside ``destination`` that takes its name when the block ends without an error.

    Raises RefusedError when the destination exists and ``replace`` is false; nothing is left behind by a failure.
    """
    _refuse_existing(destination, replace)
    make_folder(destination.parent)
    draft = Path(tempfile.mkdtemp(prefix=".adding-", dir=destination.parent))
    try:
        folder = draft / "new"
        make_folder(folder)
        yield folder
        _refuse_existing(destination, replace)  # somebody else may have been quicker
        if destination.exists():
            destination.rename(draft / "old")
        folder.rename(destination)
    except BaseException:
        if (draft / "old").exists() and not destination.exists():
            (draft / "old").rename(destination)
        raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _refuse_existing(destination: Path, replace: bool) -> None:
    if destination.exists() and not replace:
        raise RefusedError(f"{destination}: exists already; --force replaces it")
