"""What an option may be, in words, from the JSON schema of its field."""

from __future__ import annotations

from typing import Any


def allowed(schema: dict[str, Any]) -> str:
    """As in "must be a whole number, 1 or more"; "must be of another kind" where the schema says nothing."""
    for kind in schema.get("anyOf", [schema]):  # what may be left out is something, or null
        match kind:
            case {"enum": choices}:
                return f"must be one of {', '.join(map(str, choices))}"
            case {"type": "boolean"}:
                return "must be true or false (on or off, yes or no, 1 or 0)"
            case {"type": "integer"}:
                least = kind["exclusiveMinimum"] + 1 if "exclusiveMinimum" in kind else kind.get("minimum")
                return f"must be a whole number{_range(least, kind.get('maximum'))}"
            case {"type": "number", "exclusiveMinimum": above}:
                most = f" and at most {kind['maximum']:g}" if "maximum" in kind else ""
                return f"must be a number above {above:g}{most}"
            case {"type": "number"}:
                return f"must be a number{_range(kind.get('minimum'), kind.get('maximum'))}"
    return "must be of another kind"


def _range(least: float | None, most: float | None) -> str:
    if least is None:
        return ""
    return f", {least:g} or more" if most is None else f" from {least:g} to {most:g}"
