"""How the numbers of an answer are told: their type, and as lists, base64 or bytes."""

from __future__ import annotations

from base64 import b64encode
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from pydantic import BaseModel, ConfigDict, Field

from strata.app.api.refusals import VALIDATION, Refusal
from strata.app.api.responses import Embedded
from strata.app.counted import counted
from strata.app.planning.plan import Ask
from strata.app.served import Served
from strata.app.writers import Writers
from strata.model_store.bundle.output_types import OUTPUT_TYPES, PACKED, SCALED, OutputType
from strata.model_store.bundle.quantized import Arrays, quantized


class OutputOptions(BaseModel):
    """How the numbers are written, in OpenAI's words."""

    model_config = ConfigDict(strict=True)

    encoding_format: Annotated[
        Literal["float", "base64"] | None,
        Field(description="base64: each vector's bytes, numbers little-endian. Default: lists of numbers."),
    ] = None


def check_output(served: Served, kind: OutputType, ask: Ask, field: str, *, normalize: bool) -> None:
    """Refuse a type that this model has not, before anything is run. Raises Refusal."""
    manifest = served.manifest
    if kind in SCALED:
        if manifest.int8_ranges is None:
            others = ", ".join(name for name in OUTPUT_TYPES if name not in SCALED)
            raise Refusal(
                VALIDATION,
                f"`{field}` {kind} needs ranges that `strata profile` calibrates, and this model has none; "
                f"it has: {others}",
                field,
            )
        if not normalize:
            raise Refusal(VALIDATION, f"`{field}` {kind} is for vectors of length 1; leave `normalize` out", field)
    if kind in PACKED and (dim := ask.dim or manifest.full_dim) % 8:
        raise Refusal(VALIDATION, f"`{field}` {kind} needs a `dim` that is a multiple of 8. Given: {dim}", field)


def as_type(served: Served, embedded: Embedded, kind: OutputType, field: str) -> Arrays:
    """The vectors of an answer as numbers of type ``kind``: [texts, dim], or [texts, dim / 8] where it packs bits.

    Raises Refusal naming ``field`` where one was run at an exit or dim for which no int8 range was calibrated.
    """
    answer = embedded.answer
    if kind == "float":
        return answer.vectors
    count = len(answer.vectors)
    ranges = np.ones(count, np.float32)
    if kind in SCALED:
        table = served.manifest.int8_ranges
        assert table is not None  # it was checked
        for row, layers in enumerate(answer.depths or (answer.layers,) * count):
            found = table.ranges.get(layers, {}).get(answer.dim)
            if found is None:
                message = (
                    f"`{field}` {kind}: no range was calibrated for {counted(layers, 'layer')} and {answer.dim} dims"
                )
                raise Refusal(VALIDATION, message, field)
            ranges[row] = found
    return quantized(answer.vectors, kind, ranges)


def headers(served: Served, embedded: Embedded, *kinds: OutputType) -> list[tuple[bytes, bytes]]:
    """What was run, the type of the numbers, and for int8 what 127 stands for: of each text where depths differ."""
    found, answer = embedded.headers(), embedded.answer
    if len(kinds) == 1 and kinds[0] != "float":
        found.append((b"x-strata-output-dtype", kinds[0].encode()))
    table = served.manifest.int8_ranges
    if table and not set(kinds).isdisjoint(SCALED):
        ranges = [b"%.6f" % table.ranges[layers][answer.dim] for layers in answer.depths or (answer.layers,)]
        found.append((b"x-strata-int8-range", b",".join(ranges)))
    return found


def little_endian(rows: Arrays) -> Arrays:
    """The same numbers in the byte order that is told."""
    return rows.astype(rows.dtype.newbyteorder("<"), copy=False)


def base64_rows(rows: Arrays) -> list[str]:
    """Each row's bytes as base64."""
    return [b64encode(row.tobytes()).decode() for row in little_endian(rows)]


async def rows_for_json(rows: Arrays, options: OutputOptions, writers: Writers) -> Arrays | list[str] | bytes:
    """Rows as `json_response` takes them: numbers, base64 of each row, or bytes of a JSON list written already."""
    return base64_rows(rows) if options.encoding_format == "base64" else await writers.json(rows)


def row_by_row(rows: Arrays | list[str] | bytes) -> Any:
    """What `rows_for_json` gave, one row after another, each to be put into other JSON."""
    if not isinstance(rows, bytes):
        return rows
    return [orjson.Fragment(b"[%b]" % row) for row in rows[2:-2].split(b"],[")]


def all_rows(rows: Arrays | bytes) -> Any:
    """What `Writers.json` gave, all rows as one part of other JSON."""
    return orjson.Fragment(rows) if isinstance(rows, bytes) else rows
