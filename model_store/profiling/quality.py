"""Quality of a model folder at every (exit, dim): similarity of short texts, and search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model_store.profiling.reference import ReferenceEncoder
from model_store.profiling.retrieval import RetrievalResult, RetrievalSet, measure_retrieval
from model_store.profiling.sts import StsPairs, StsResult, measure_sts


@dataclass(frozen=True)
class QualityReport:
    """All that was measured of one folder."""

    exits: tuple[int, ...]
    dims: tuple[int, ...]
    sts: tuple[StsResult, ...]
    retrieval: tuple[RetrievalResult, ...]

    def as_data(self) -> dict[str, Any]:
        """The report as dicts, lists and numbers."""
        return asdict(self)


def measure_quality(
    folder: Path,
    dims: Iterable[int],
    exits: Sequence[int] = (),
    sts: Iterable[StsPairs] = (),
    retrieval: Iterable[RetrievalSet] = (),
    progress: bool = False,
) -> QualityReport:
    """Measure ``folder`` at ``exits`` (default: all it has) and ``dims``, one pass over the texts for all of them."""
    encoder = ReferenceEncoder(folder)
    exits, dims = tuple(exits) or encoder.exits, tuple(dims)
    return QualityReport(
        exits=exits,
        dims=dims,
        sts=tuple(measure_sts(encoder, pairs, exits, dims, progress) for pairs in sts),
        retrieval=tuple(measure_retrieval(encoder, data, exits, dims, progress) for data in retrieval),
    )
