"""Values of HTTP headers as text."""

from __future__ import annotations

from starlette.types import Scope


def header_text(raw: bytes) -> str:
    """UTF-8 where it is that, as Strata writes it; else Latin-1, which any bytes are."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def header_values(scope: Scope, name: bytes) -> list[str]:
    """Every value of a header of a request; ``name`` in lower case."""
    return [header_text(value) for given, value in scope["headers"] if given == name]
