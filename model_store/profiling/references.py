"""What a score is a share of: the source model's own, on the same set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from strata.model_store.bundle.bundle import file_sha256, read_manifest
from strata.model_store.bundle.latency import cache_folder
from strata.model_store.bundle.manifest import MANIFEST_NAME, Manifest
from strata.model_store.bundle.quality import at_full_depth
from strata.model_store.profiling.beir import RetrievalSet
from strata.model_store.profiling.benchmarks import Benchmarks
from strata.model_store.profiling.encoders import SourceEncoder, Told, source_encoder
from strata.model_store.profiling.retrieval import measure_retrieval
from strata.model_store.profiling.set_result import SetResult
from strata.model_store.profiling.sts import StsPairs, measure_sts

if TYPE_CHECKING:
    import torch

_WEIGHTS = ("*.safetensors", "*.json", "*.txt", "*.model")  # what shapes a source model's vectors
_VERSION = 2  # of how the scores are worked out


@dataclass(frozen=True)
class References:
    """The model whose full-depth scores are 1.0, and those scores by set."""

    name: str
    scores: Mapping[str, float]


class SourceModel:
    """A source model's folder. Scores are remembered in the user's cache, by the files of the model and of the set.

    Where the folder is a bundle that says what its own scores on all these sets are shares of, that model and its
    scores are the reference: what is made of a bundle is compared with what the bundle was made of. On other sets it
    is the bundle itself, and goes by its own name instead of ``name``. ``measured`` is the name of the bundle whose
    shares these are: where both have one name, the source is told apart from that bundle's own full depth.
    """

    def __init__(
        self, folder: Path, name: str, device: torch.device, precision: str, *, measured: str, remembered: bool = True
    ) -> None:
        self._folder = folder
        self._bundle = read_manifest(folder) if (folder / MANIFEST_NAME).exists() else None
        called = self._bundle.name if self._bundle else name
        self.name = at_full_depth(f"{called}, the original," if called == measured else called)
        self._device = device
        self._precision = precision
        self._remembered = remembered
        files = sorted({file for pattern in _WEIGHTS for file in folder.rglob(pattern) if file.is_file()})
        if not files:
            raise ValueError(f"{folder}: no model in it")
        digests = [f"{file.relative_to(folder)} {file_sha256(file)}" for file in files]
        self._identity = hashlib.sha256("\n".join((*digests, precision, str(_VERSION))).encode()).hexdigest()

    def missing(self, benchmarks: Benchmarks) -> Benchmarks:
        """The sets whose scores are not known."""
        if self._told(benchmarks):
            return Benchmarks()
        return Benchmarks(
            [each for each in benchmarks.sts if self._known(each) is None],
            [each for each in benchmarks.retrieval if self._known(each) is None],
        )

    def measure(self, benchmarks: Benchmarks, told: Told) -> References:
        """The score on every set, measured where it is not known."""
        if told_of := self._told(benchmarks):
            return told_of
        sets: Sequence[StsPairs | RetrievalSet] = (*benchmarks.sts, *benchmarks.retrieval)
        scores = {each.name: known for each in sets if (known := self._known(each)) is not None}
        encoder = None
        for each in sets:
            if each.name in scores:
                continue
            encoder = encoder or source_encoder(self._folder, self._device, self._precision, told)
            exits, dims = (encoder.layers,), (encoder.dim,)
            if isinstance(each, StsPairs):
                found = measure_sts(encoder, each, exits, dims)
            else:
                found = measure_retrieval(encoder, each, exits, dims)
            scores[each.name] = found.scores("alike")[encoder.layers][encoder.dim]
            self._remember(each, scores[each.name])
        if isinstance(encoder, SourceEncoder):
            encoder.close()
        return References(self.name, scores)

    def _told(self, benchmarks: Benchmarks) -> References | None:
        """What the bundle says of all these sets."""
        quality = self._bundle.quality if self._bundle else None
        sets: Sequence[StsPairs | RetrievalSet] = (*benchmarks.sts, *benchmarks.retrieval)
        if quality is None or any(
            each.name not in quality.sets or quality.sets[each.name].sha256 != each.sha256 for each in sets
        ):
            return None
        return References(quality.reference, {each.name: quality.sets[each.name].reference_score for each in sets})

    def _known(self, each: StsPairs | RetrievalSet) -> float | None:
        file = self._file(each)
        if not self._remembered or not file.exists():
            return None
        return float(json.loads(file.read_text(encoding="utf-8"))["score"])

    def _remember(self, each: StsPairs | RetrievalSet, score: float) -> None:
        file = self._file(each)
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".partial")
        draft.write_text(json.dumps({"source": self.name, "set": each.name, "score": score}) + "\n", encoding="utf-8")
        draft.replace(file)

    def _file(self, each: StsPairs | RetrievalSet) -> Path:
        return cache_folder() / "references" / f"{self._identity[:16]}-{each.sha256[:16]}.json"


def known_references(manifest: Manifest, found: Sequence[SetResult]) -> References:
    """Without a source model: the scores the manifest has of these sets, or the model's own full depth.

    Raises ValueError for a set that was not measured against the source model the other sets are shares of.
    """
    last, full, quality = manifest.exits[-1], manifest.full_dim, manifest.quality
    own = {each.name: each.scores("alike")[last][full] for each in found}
    name = at_full_depth(manifest.name)
    if quality is None or quality.reference == name:
        return References(name, own)
    known = {
        each.name: quality.sets[each.name].reference_score
        for each in found
        if each.name in quality.sets and quality.sets[each.name].sha256 == each.sha256
    }
    if missing := sorted(set(own) - set(known)):
        raise ValueError(f"{missing[0]}: its share is of {quality.reference}; name that model's folder with --base")
    return References(quality.reference, known)
