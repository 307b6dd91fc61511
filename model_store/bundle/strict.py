"""The base of every part of a manifest: no unknown fields, unchangeable; and how a fault in one is told."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError


class Strict(BaseModel):
    """Unknown fields are errors: a manifest from a newer Strata must not be half understood."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def first_fault(error: ValidationError) -> str:
    """The first thing that is wrong, in one line: ``field.part: what``, or what alone where it is of no one field."""
    first = error.errors()[0]
    where, what = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
