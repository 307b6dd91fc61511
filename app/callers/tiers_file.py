"""The file of `--tiers`: TOML, an array ``[[tier]]``, highest first."""

from __future__ import annotations

import stat
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
    model_validator,
)

from strata.app.callers.callers import Callers
from strata.app.callers.tier import Tier
from strata.model_store.bundle.prompts import InputType

_HASH = "sha256:"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
KeyHash = Annotated[str, StringConstraints(pattern=rf"^{_HASH}[0-9a-f]{{64}}$")]


class TiersError(ValueError):
    """The file cannot be used; the message is one line that names file, tier and field."""


class _Entry(BaseModel):
    """One ``[[tier]]``."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Name
    deadline_ms: Positive | None = None
    min_quality: Positive | None = None
    min_layers: PositiveInt | None = None
    exits: Annotated[list[NonNegativeInt], Field(min_length=1)] | Literal["shared"] | None = None
    input_type: InputType | None = None
    task: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] | None = None
    share: Positive = 1.0
    rate: Positive | None = None
    burst: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    keys: list[KeyHash] = []
    anonymous: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.burst is not None and self.rate is None:
            raise ValueError("burst needs a rate")
        return self

    def tier(self) -> Tier:
        return Tier(
            self.name,
            None if self.deadline_ms is None else self.deadline_ms / 1000,
            self.min_quality,
            self.min_layers,
            tuple(sorted(set(self.exits))) if isinstance(self.exits, list) else self.exits,
            self.input_type,
            self.task,
            self.share,
            self.rate,
            self.burst,
        )


class _File(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    tier: Annotated[list[_Entry], Field(min_length=1)]


def read_tiers(path: Path) -> Callers:
    """The callers a file lets in. Raises TiersError."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for, now and at each SIGHUP
            raise OSError("is no regular file; write the tiers into one")
        raw = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise TiersError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise TiersError(f"{path}: is not UTF-8 ({error}); save it as UTF-8") from error
    except ValueError as error:  # not TOML
        raise TiersError(f"{path}: {error}") from error
    if "tier" not in raw:
        raise TiersError(f"{path}: has no [[tier]]; docker/tiers.toml is an example")
    try:
        entries = _File.model_validate(raw).tier
    except ValidationError as error:
        raise TiersError(f"{path}: {_told(error, raw)}") from error
    _refuse_repeats(path, entries)
    keys = {bytes.fromhex(key.removeprefix(_HASH)): rank for rank, entry in enumerate(entries) for key in entry.keys}
    keyless = next((rank for rank, entry in enumerate(entries) if entry.anonymous), None)
    return Callers([entry.tier() for entry in entries], keys, keyless)


def _refuse_repeats(path: Path, entries: list[_Entry]) -> None:
    names: set[str] = set()
    owners: dict[str, str] = {}
    keyless: str | None = None
    for entry in entries:
        if entry.name in names:
            raise TiersError(f'{path}: tier "{entry.name}": name: there are two tiers of this name')
        names.add(entry.name)
        for key in entry.keys:
            if key in owners:
                raise TiersError(
                    f'{path}: tier "{entry.name}": keys: {key[:15]}... is already a key of "{owners[key]}"'
                )
            owners[key] = entry.name
        if entry.anonymous and keyless is not None:
            raise TiersError(
                f'{path}: tier "{entry.name}": anonymous: callers without a key already have tier "{keyless}"'
            )
        keyless = entry.name if entry.anonymous else keyless


def _told(error: ValidationError, raw: dict[str, Any]) -> str:
    """The first mistake, in one line; the value is not repeated, as it might be a key."""
    first = error.errors(include_url=False, include_input=False)[0]
    location = list(first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = "no such field"
    if first["type"] == "string_pattern_mismatch" and "keys" in location:
        message = f"must be {_HASH} and 64 hex digits, as `strata keys new` prints it"
    if len(location) < 2 or location[0] != "tier":
        return f"{'.'.join(map(str, location)) or 'tier'}: {message}"
    index = int(location[1])
    entry = raw["tier"][index]
    name = entry.get("name") if isinstance(entry, dict) else None
    which = f'"{name}"' if isinstance(name, str) else f"number {index + 1}"
    return f"tier {which}: {location[2]}: {message}" if len(location) > 2 else f"tier {which}: {message}"
