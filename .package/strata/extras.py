"""The extras: packages that only some commands need, and what is told where they are not installed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

TRAIN, LOADTEST, OTEL = "train", "loadtest", "otel"


def needs(extra: str, missing: Iterable[str] = ()) -> str:
    """What a command says that lacks packages of an extra."""
    named = ", ".join(missing)
    return f"needs more packages{f' ({named})' if named else ''}: {install(extra)}"


def install(extra: str) -> str:
    """The command that brings an extra."""
    return f"pip install 'strata-embed[{extra}]'"


def missing_of(packages: Iterable[str]) -> list[str]:
    """Those that cannot be imported here."""
    return [name for name in packages if importlib.util.find_spec(name) is None]
