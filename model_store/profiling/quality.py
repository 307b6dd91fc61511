"""Quality of a model at every (exit, dim): similarity of short texts, and search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import TypeAdapter, ValidationError

from strata.model_store.encoding.reference import ReferenceEncoder
from strata.model_store.profiling.beir import RetrievalSet
from strata.model_store.profiling.retrieval import RetrievalResult, measure_retrieval
from strata.model_store.profiling.sts import StsPairs, StsResult, measure_sts

Result = TypeVar("Result", StsResult, RetrievalResult)


@dataclass(frozen=True)
class QualityReport:
    """All that was measured of one model."""

    exits: tuple[int, ...]
    dims: tuple[int, ...]
    sts: tuple[StsResult, ...] = ()
    retrieval: tuple[RetrievalResult, ...] = ()

    def as_data(self) -> dict[str, Any]:
        """The report as dicts, lists and numbers."""
        return asdict(self)

    @classmethod
    def read(cls, file: Path) -> Self | None:
        """The report of a bundle, or None where it has none. Raises ValueError naming a file that is none."""
        if not file.exists():
            return None
        try:
            return TypeAdapter(cls).validate_json(file.read_bytes())
        except ValidationError as error:
            raise ValueError(f"{file}: is not a report of quality: {error.errors()[0]['msg']}") from error

    def updated(self, newer: QualityReport) -> QualityReport:
        """This report with the newer one's results in place of those on the same sets."""
        return QualityReport(
            newer.exits, newer.dims, _merged(self.sts, newer.sts), _merged(self.retrieval, newer.retrieval)
        )


def measure_quality(
    encoder: ReferenceEncoder,
    dims: Iterable[int],
    exits: Sequence[int] = (),
    sts: Iterable[StsPairs] = (),
    retrieval: Iterable[RetrievalSet] = (),
    progress: bool = False,
) -> QualityReport:
    """Measure at ``exits`` (default: all the model has) and ``dims``, one pass over the texts for all of them."""
    exits, dims = tuple(exits) or encoder.exits, tuple(dims)
    return QualityReport(
        exits=exits,
        dims=dims,
        sts=tuple(measure_sts(encoder, pairs, exits, dims, progress) for pairs in sts),
        retrieval=tuple(measure_retrieval(encoder, data, exits, dims, progress) for data in retrieval),
    )


def _merged(old: tuple[Result, ...], new: tuple[Result, ...]) -> tuple[Result, ...]:
    by_name: dict[str, Result] = {result.name: result for result in old}
    by_name.update({result.name: result for result in new})
    return tuple(by_name.values())
