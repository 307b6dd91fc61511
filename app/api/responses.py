"""Responses: what was run and where the time went as headers, and the vectors as JSON, base64 or raw floats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import orjson
from starlette.responses import Response

from strata.app.planning.plan import Terms
from strata.app.request_context import RequestContext
from strata.app.scheduling.result import Answer
from strata.model_store.bundle.quality import Worth

JSON, RAW = "application/json", "application/octet-stream"


@dataclass(slots=True)
class Embedded:
    """A request's vectors, and what may be said about how they came to be. Times in seconds."""

    answer: Answer
    terms: Terms
    model: str  # name and revision: vectors of two revisions do not compare
    space: str | None  # of the vectors; None where they are in several
    quality: Worth | None  # as measured for what the engine ran
    device: str
    dtype: str  # of the engine's arithmetic
    characters: int
    cut: int  # texts of which only the first tokens, or the last, were embedded
    receive_s: float  # until its texts were at hand
    tokenization_s: float
    context: RequestContext

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What was run (X-Strata-*) and where the time went (Server-Timing in ms, and TEI's x-* in whole ms).

        Up to now: to be asked for once the body is written.
        """
        answer, total_s = self.answer, self.context.seconds
        total = b"%d" % (total_s * 1000)
        found = [
            (b"x-strata-model", self.model.encode()),
            (b"x-strata-layers", ",".join(map(str, answer.depths or (answer.layers,))).encode()),
            (b"x-strata-dim", b"%d" % answer.dim),
            (b"x-strata-dtype", self.dtype.encode()),
            (b"x-strata-tier", self.terms.tier.encode()),
            (b"x-strata-predicted-ms", b"%.1f" % (answer.predicted_s * 1000)),
            (
                b"server-timing",
                b"receive;dur=%.3f, tokenize;dur=%.3f, queue;dur=%.3f, inference;dur=%.3f, total;dur=%.3f"
                % (
                    self.receive_s * 1000,
                    self.tokenization_s * 1000,
                    answer.queue_s * 1000,
                    answer.inference_s * 1000,
                    total_s * 1000,
                ),
            ),
            (b"x-compute-type", self.device.encode()),
            (b"x-compute-time", total),
            (b"x-compute-characters", b"%d" % self.characters),
            (b"x-compute-tokens", b"%d" % answer.tokens),
            (b"x-total-time", total),
            (b"x-tokenization-time", b"%d" % (self.tokenization_s * 1000)),
            (b"x-queue-time", b"%d" % (answer.queue_s * 1000)),
            (b"x-inference-time", b"%d" % (answer.inference_s * 1000)),
        ]
        if self.cut:
            found.append((b"x-strata-truncated", b"%d" % self.cut))
        if self.space is not None:
            found.append((b"x-strata-space", self.space.encode()))
        if self.quality is not None:
            found.append((b"x-strata-quality", b"%.4f" % self.quality.share))
            found.append((b"x-strata-task", self.quality.task.encode()))
        if self.terms.input_type is not None:
            found.append((b"x-strata-input-type", self.terms.input_type.encode()))
        if self.terms.deadline_s is not None:
            found.append((b"x-strata-slack-ms", b"%.1f" % ((self.terms.deadline_s - total_s) * 1000)))
        return found


def json_response(content: Any, headers: Callable[[], Sequence[tuple[bytes, bytes]]] = tuple) -> Response:
    """JSON; numpy arrays are written as lists of numbers, bytes are JSON already. ``headers`` are told once it is."""
    written = isinstance(content, bytes)
    body = content if written else orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    response = Response(body, media_type=JSON)
    response.raw_headers.extend(headers())
    return response


def raw_response(rows: npt.NDArray[Any], headers: Sequence[tuple[bytes, bytes]]) -> Response:
    """Numbers of one type, row after row; X-Strata-Shape says how many rows of how many."""
    response = Response(rows.tobytes(), media_type=RAW)
    response.raw_headers.extend(headers)
    response.raw_headers.append((b"x-strata-shape", b"%d,%d" % rows.shape))
    return response
