"""What goes into a cell of the tables that are made of the code."""

from __future__ import annotations

from typing import Any


def cell(text: str) -> str:
    """In one line, and without what ends a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def kind_of(schema: dict[str, Any]) -> str:
    """A JSON schema's type in a few words."""
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            parts = dict.fromkeys(kind_of(part) for part in schema[union])
            return " or ".join(part for part in parts if part != "null")  # that may be left out is told by the default
    kind = str(schema.get("type", "any"))
    return f"[{kind_of(schema['items'])}]" if kind == "array" and "items" in schema else kind
