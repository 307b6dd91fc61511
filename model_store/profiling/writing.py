"""What was measured, written into its bundle: manifest, report and card say the same."""

from __future__ import annotations

import json
from pathlib import Path

from strata.model_store.bundle.bundle import file_sha256, write_manifest
from strata.model_store.bundle.manifest import CARD, REPORT, FileRecord, Manifest
from strata.model_store.bundle.writing import FILE_MODE
from strata.model_store.profiling.card import with_scores
from strata.model_store.profiling.quality import QualityReport


def write_measured(folder: Path, manifest: Manifest, report: QualityReport) -> Manifest:
    """Write the manifest with its measured tables, the report and the card's section of scores; nothing else changes.

    The files are written beside the old ones and then take their places. Returns the manifest as written.
    """
    card = folder / CARD
    old = card.read_text(encoding="utf-8") if card.exists() else f"# {manifest.name}\n"
    texts = {
        CARD: with_scores(old, manifest, report),
        REPORT: json.dumps(report.as_data(), indent=1) + "\n",
    }
    records = {}
    for name, text in texts.items():
        draft = folder / f"{name}.partial"
        draft.write_text(text, encoding="utf-8")
        draft.chmod(FILE_MODE)
        records[name] = FileRecord(size=draft.stat().st_size, sha256=file_sha256(draft))
    complete = Manifest.model_validate({**manifest.model_dump(), "files": {**manifest.files, **records}})
    for name in texts:
        (folder / f"{name}.partial").replace(folder / name)
    write_manifest(folder, complete)
    return complete
