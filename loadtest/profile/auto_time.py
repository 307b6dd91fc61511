"""What per-text exit saves in time, measured with the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from strata.app.engine.batch import Batch, Row, TokenIds
from strata.app.engine.options import EngineOptions
from strata.app.engine.pool import EnginePool
from strata.model_store.bundle.bundle import Bundle, read_tokenizer, write_manifest
from strata.model_store.bundle.measured import AutoExit

BATCHES = {1: 48, 32: 128}  # texts of a batch -> texts timed
_ROUNDS = 3
WORTH = 0.02  # share of full depth's time that must be saved, beyond what noise may pretend


@dataclass(frozen=True)
class Saving:
    """Per-text exit against full depth, in batches of so many texts."""

    batch: int
    mean_depth: float  # layers
    saved: float  # share of full depth's time; below 0 where testing costs more than it saves


async def measure_saving(
    bundle: Bundle, auto: AutoExit, texts: Sequence[str], engine: EngineOptions, progress: bool = False
) -> list[Saving]:
    """Time of per-text exit as a share of full depth's, both in turn on one worker; the best of three rounds each.

    Raises EngineError when the engine cannot start.
    """
    manifest = bundle.manifest.model_copy(update={"auto_exit": auto})
    tokens = _tokens(bundle, texts[: max(BATCHES.values())])
    last, dim = manifest.exits[-1], manifest.full_dim
    with TemporaryDirectory() as folder:  # the engine reads where to test from the manifest
        for name in manifest.files:
            place = Path(folder) / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to((bundle.path / name).resolve())
        write_manifest(Path(folder), manifest)
        pool = EnginePool(Path(folder), replace(engine, workers=1, threads=1))
        try:
            await pool.start()
            found = []
            for size, count in BATCHES.items():
                spent, depths = np.zeros(2), []
                groups = [tokens[i : i + size] for i in range(0, min(count, len(tokens)), size)]
                for group in tqdm(groups, desc=f"per-text exit, batch {size}", unit="batch", disable=not progress):
                    pair = [
                        Batch([Row(ids, last, dim, threshold=bar) for ids in group]) for bar in (None, auto.threshold)
                    ]
                    rounds = [[await pool.run(batch) for batch in pair] for _ in range(_ROUNDS)]
                    spent += np.min([[result.seconds for result in results] for results in rounds], axis=0)
                    depths += rounds[0][1].layers
                found.append(Saving(size, float(np.mean(depths)), float(1 - spent[1] / spent[0])))
        finally:
            await pool.stop()
    return found


def judged(auto: AutoExit, savings: Sequence[Saving]) -> AutoExit:
    """The calibration, refused where no batch size saves time."""
    if auto.refused or any(saving.saved >= WORTH for saving in savings):
        return auto
    told = ", ".join(f"{saving.saved:.0%} at batch {saving.batch}" for saving in savings)
    return auto.model_copy(update={"refused": f"no gain: the time saved by leaving early was {told}"})


def _tokens(bundle: Bundle, texts: Sequence[str]) -> list[TokenIds]:
    tokenizer = read_tokenizer(bundle.path, lowercase=bundle.manifest.lowercase)
    limit = bundle.manifest.max_tokens
    return [np.array(e.ids[:limit], np.int32) for e in tokenizer.encode_batch_fast(list(texts))]
