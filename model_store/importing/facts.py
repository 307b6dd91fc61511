"""Small facts of a model found in its texts: its name, its licence, its longest input."""

from __future__ import annotations

import re
from pathlib import Path

from strata.model_store.bundle.manifest import MANIFEST_NAME
from strata.model_store.importing.refusal import RefusedError
from strata.model_store.importing.source import JSON_LIMIT, Source

UNKNOWN_LICENCE = "unknown"
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---", re.DOTALL)


def bundle_name(source: Path) -> str:
    """The name a bundle already has, or one made of the folder's. Raises RefusedError when nothing can be kept."""
    own = Source(source).object(MANIFEST_NAME).get("name")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", own if isinstance(own, str) else source.resolve().name).strip("-._")[:96]
    if not name:
        raise RefusedError(f"{source}: cannot make a name of this; give one with --name")
    return name


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
    return _told(model, "source") or origin(Source(model).object("config.json"), model)


def _told(model: Path, fact: str) -> str | None:
    provenance = Source(model).object(MANIFEST_NAME).get("provenance")
    found = provenance.get(fact) if isinstance(provenance, dict) else None
    return found if isinstance(found, str) else None


def origin(config: dict[str, object], source: Path) -> str:
    """The hub name of the model where config.json keeps it, else the folder's name."""
    name = config.get("_name_or_path")
    # Two words around one slash is a hub name; anything else is a path on somebody's machine.
    return name if isinstance(name, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", name) else source.resolve().name
