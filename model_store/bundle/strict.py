"""What every part of a manifest is: exactly the fields this Strata knows, and unchangeable."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Unknown fields are errors: a manifest from a newer Strata must not be half understood."""

    model_config = ConfigDict(extra="forbid", frozen=True)
