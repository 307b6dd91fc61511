"""Values of HTTP headers as text."""

from __future__ import annotations


def header_text(raw: bytes) -> str:
    """UTF-8 where it is that, as Strata writes it; else Latin-1, which any bytes are."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
