"""The folder a model is imported from, read with distrust: nothing outside it, nothing oversized, nothing executed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from strata.model_store.bundle.hub import POINTER_TOLD, absent, is_pointer, snapshot
from strata.model_store.importing.refusal import RefusedError

JSON_LIMIT = 4 << 20  # bytes; a real config.json has a few KB, an index of shards some hundred
TOKENIZER_LIMIT = 256 << 20  # bytes; the largest real tokenizer.json (256,000 pieces) has about 35 MB


class Source:
    """One folder of a model. Names are relative to it; what is not a plain file counts as absent."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise RefusedError(absent(str(path)))
        path = snapshot(path)
        self.path = path
        self._roots = [path.resolve()]
        if path.resolve().parent.name == "snapshots":
            # A snapshot of the Hugging Face cache is made of links into the blobs beside it.
            self._roots.append(path.resolve().parent.parent / "blobs")

    def file(self, name: str, limit: int | None = None) -> Path | None:
        """The file called ``name``, or None. Raises RefusedError: outside, over ``limit``, not fetched."""
        path = self.path / name
        if not path.is_file():
            return None
        target = path.resolve()
        if not any(target.is_relative_to(root) for root in self._roots):
            raise RefusedError(f"{path}: leads out of the model's folder, to {target}")
        if limit is not None and target.stat().st_size > limit:
            raise RefusedError(f"{path}: {target.stat().st_size} bytes; more than {limit} is not believable")
        if is_pointer(target):
            raise RefusedError(f"{path}: {POINTER_TOLD}")
        return path

    def json(self, name: str) -> Any:
        """The parsed JSON file ``name``, or None where there is none. Raises RefusedError."""
        path = self.file(name, JSON_LIMIT)
        if path is None:
            return None
        try:
            return json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise RefusedError(f"{path}: not readable as JSON: {error}") from error

    def object(self, name: str) -> dict[str, Any]:
        """The JSON object in ``name``; empty where there is no such file. Raises RefusedError."""
        value = self.json(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise RefusedError(f"{self.path / name}: must hold a JSON object")
        return value

    def folder(self, name: str) -> Source:
        """A folder inside this one. Raises RefusedError when it is missing or leads out."""
        if name in ("", "."):
            return self
        path = self.path / name
        if not path.resolve().is_relative_to(self._roots[0]):
            raise RefusedError(f"{path}: leads out of the model's folder")
        inner = Source(path)
        inner._roots = self._roots
        return inner
