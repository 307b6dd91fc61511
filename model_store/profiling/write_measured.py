"""What was measured, written into its bundle: manifest and card say the same."""

from __future__ import annotations

from pathlib import Path

from strata.model_store.bundle.bundle import file_sha256, write_manifest
from strata.model_store.bundle.manifest import CARD, FileRecord, Manifest
from strata.model_store.bundle.writing import write_text
from strata.model_store.profiling.card import with_scores


def write_measured(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest with its measured tables, and the card's section of scores; nothing else changes.

    Returns the manifest as written.
    """
    card = folder / CARD
    old = card.read_text(encoding="utf-8") if card.exists() else f"# {manifest.name}\n"
    write_text(card, with_scores(old, manifest))
    record = FileRecord(size=card.stat().st_size, sha256=file_sha256(card))
    complete = Manifest.model_validate({**manifest.model_dump(), "files": {**manifest.files, CARD: record}})
    write_manifest(folder, complete)
    return complete
