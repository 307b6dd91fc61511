"""What a caller may ask of depth and length: as query parameters, as body fields, or both if they agree."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field

from app.api.errors import VALIDATION, Refusal
from app.planning.plan import Ask


class ElasticBody(BaseModel):
    """The fields every embedding request may carry. Unknown fields are ignored, as both protocols do."""

    model_config = ConfigDict(strict=True, extra="ignore")

    layers: Annotated[
        int | None, Field(description="Layers to run: one of the exits in `/info`. Default: all.", examples=[6])
    ] = None
    dim: Annotated[
        int | None,
        Field(description="Length of the vectors: one of the dims in `/info`. Default: full.", examples=[256]),
    ] = None
    dimensions: Annotated[int | None, Field(description="The same as `dim`.")] = None


# As query parameters too: a client library that fixes the body can still be pointed at `/embed?layers=6&dim=256`.
_PARAMETERS = {"layers": "layers", "dim": "dim", "dimensions": "dim"}
QUERY_DOCS: list[dict[str, Any]] = [
    {"name": name, "in": "query", "required": False, "schema": {"type": "integer", "minimum": 1}, "description": text}
    for name, text in (
        ("layers", "Layers to run; the same as the body's `layers`."),
        ("dim", "Length of the vectors; the same as the body's `dim`."),
    )
]


def ask_of(query: bytes, body: ElasticBody) -> Ask:
    """The ask of a request. Raises Refusal naming the field where two places say different things."""
    said: dict[str, tuple[str, int]] = {}  # asked -> where it was said, value
    given = [(f"`{name}` in the body", name, getattr(body, name)) for name in _PARAMETERS]
    if query:
        given += [(f"`{name}` in the query", name, value) for name, value in _from_query(query)]
    for where, name, value in given:
        if value is None:
            continue
        field = _PARAMETERS[name]
        first_where, first = said.setdefault(field, (where, value))
        if first != value:
            message = f"`{field}` is given twice and differs: {first_where} is {first}, {where} is {value}"
            raise Refusal(VALIDATION, message, field)
    return Ask(layers=said["layers"][1] if "layers" in said else None, dim=said["dim"][1] if "dim" in said else None)


def _from_query(query: bytes) -> list[tuple[str, int]]:
    found = []
    for name, text in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name in _PARAMETERS:
            if not (text.isascii() and text.isdigit() and len(text) < 10):
                raise Refusal(VALIDATION, f"`{name}` must be a whole number. Given: {text[:50]}", _PARAMETERS[name])
            found.append((name, int(text)))
    return found
