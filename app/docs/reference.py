"""The guide's pages that are made of the code when they are read: options, metrics and API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from strata.app.metrics import Metrics
from strata.app.settings import ENV_PREFIX, Settings


def options() -> str:
    """Every option of `strata serve`, by group."""
    lines = [
        "# Options\n",
        "Every option is a flag and an environment variable: `--max-batch-tokens` is `"
        + ENV_PREFIX
        + "MAX_BATCH_TOKENS`. "
        "Flags win over the environment, the environment over the defaults.\n",
    ]
    group = ""
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        assert isinstance(extra, dict)
        if extra["group"] != group:
            group = str(extra["group"])
            lines += [f"\n## {group}\n", "| flag | default | what |", "| --- | --- | --- |"]
        default = "" if field.default in (None, "") else f"`{_shown(field.default)}`"
        flag = "--" + name.replace("_", "-")
        lines.append(f"| `{flag}` | {default} | {_cell(field.description or '')} |")
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Every series of `/metrics` that is Strata's own or TEI's."""
    lines = [
        "# Metrics\n",
        "`GET /metrics` in Prometheus' text format. Series that begin with `te_` are named as "
        "text-embeddings-inference names them. A histogram has `_bucket`, `_sum` and `_count`. Durations are in "
        "seconds.\n",
        "| series | kind | what |",
        "| --- | --- | --- |",
    ]
    lines += [f"| `{f.name}` | {f.type} | {_cell(f.documentation)} |" for f in Metrics().collect()]
    return "\n".join(lines) + "\n"


def api(schema: Mapping[str, Any]) -> str:
    """Every route with its parameters and fields, from an OpenAPI schema."""
    lines = [
        "# API\n",
        "The same as an OpenAPI schema: `GET /openapi.json`, and `/docs` to read and to try. "
        "A query parameter may be given as a header, too: `budget_ms` is `X-Strata-Budget-Ms`.\n",
    ]
    for path, methods in schema["paths"].items():
        for method, route in methods.items():
            lines += [f"\n## {method.upper()} {path}\n", " ".join(str(route.get("description", "")).split()) + "\n"]
            lines += _table("parameter", _parameters(route))
            lines += _table("field", _fields(route))
    return "\n".join(lines) + "\n"


def _parameters(route: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for parameter in route.get("parameters", ()):
        if parameter["name"].startswith("X-Strata-"):
            continue  # each says what the query parameter of its name says
        yield parameter["name"], _kind(parameter.get("schema", {})), parameter.get("description", "")


def _fields(route: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    body = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    for name, field in body.get("properties", {}).items():
        yield name, _kind(field), field.get("description", "")


def _kind(schema: dict[str, Any]) -> str:
    """A JSON schema's type in a few words."""
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(_kind(part) for part in schema[union]))
    kind = str(schema.get("type", "any"))
    return f"[{_kind(schema['items'])}]" if kind == "array" and "items" in schema else kind


def _table(what: str, rows: Iterator[tuple[str, str, str]]) -> list[str]:
    made = [f"| `{name}` | {_cell(kind)} | {_cell(text)} |" for name, kind, text in rows]
    return [f"| {what} | type | what |", "| --- | --- | --- |", *made, ""] if made else []


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _shown(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)
