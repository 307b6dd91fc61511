"""Small facts of a model found in its texts: its name, its licence, its longest input."""

from __future__ import annotations

import os
import re
from pathlib import Path

from strata.model_store.bundle.hub import repository
from strata.model_store.bundle.manifest import MANIFEST_NAME
from strata.model_store.importing.refusal import RefusedError
from strata.model_store.importing.source import JSON_LIMIT, Source

UNKNOWN_LICENCE = "unknown"
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---", re.DOTALL)


def bundle_name(source: Path) -> str:
    """The name a bundle already has, or one made of the hub's or the folder's. Raises RefusedError for want of one."""
    opened = Source(source)
    own = opened.object(MANIFEST_NAME).get("name")
    known = own if isinstance(own, str) else (repository(opened.path) or source.resolve().name).rpartition("/")[2]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", known).strip("-._")[:96]
    if not name:
        raise RefusedError(f"{source}: cannot make a name of this; give one with --name")
    return name


def as_text(name: str) -> str:
    """A name from the command line or a folder, as the text its bytes are, whatever the locale took them for."""
    return os.fsencode(name).decode("utf-8", "replace")


def licence(source: Source) -> str:
    """The licence in the model card's front matter, or "unknown"."""
    path = source.file("README.md", JSON_LIMIT)
    matter = _FRONT_MATTER.match(path.read_text(encoding="utf-8", errors="replace")) if path else None
    found = re.search(r"^license:[ \t]*['\"]?([A-Za-z0-9._+-]+)", matter[1], re.MULTILINE) if matter else None
    return found[1] if found else UNKNOWN_LICENCE


def licence_of(model: Path) -> str:
    """What a bundle's manifest or a folder's card says."""
    return _told(model, "licence") or licence(Source(model))


def source_of(model: Path) -> str:
    """What a bundle was made from, or what a folder calls itself."""
    opened = Source(model)
    return _told(model, "source") or origin(opened.object("config.json"), opened.path)


def _told(model: Path, fact: str) -> str | None:
    provenance = Source(model).object(MANIFEST_NAME).get("provenance")
    found = provenance.get(fact) if isinstance(provenance, dict) else None
    return found if isinstance(found, str) else None


def origin(config: dict[str, object], source: Path) -> str:
    """The hub name of the model, where the hub's cache or config.json keeps it, else the folder's name."""
    if cached := repository(source):
        return cached
    name = config.get("_name_or_path")
    # Two words around one slash is a hub name; anything else is a path on somebody's machine.
    return name if isinstance(name, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", name) else as_text(source.resolve().name)
