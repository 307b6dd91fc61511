"""The guide's page of the API, made of the OpenAPI schema when it is read: what all routes share is told once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from strata.app.docs.cells import cell, kind_of
from strata.app.docs.pages import anchor

SAME_AS = "x-same-as"  # of a route in the schema: the path whose endpoint answers here, too
_AT = "127.0.0.1:8080"
_NO_WORDS = "Successful Response"  # what FastAPI says where nobody says anything
_ERRORS = """
The body of a refusal is in the protocol of the path:

```json
{"error": "`layers` must be one of 1, 2, 3. Given: 99", "error_type": "Validation"}
{"error": {"message": "...", "type": "invalid_request_error", "param": "layers",
           "code": "invalid_value"}}
{"message": "..."}
```

The first is text-embeddings-inference's, the second OpenAI's (paths under `/v1`, and `/embeddings`; beside `error` a \
`detail` for Voyage's client), the third Cohere's (under `/v2`). A request that is not read to its end is told 408 \
after `--client-seconds`, one that is no HTTP 400, in plain text.
"""


class ApiPage:
    """The page, from a schema and what is told once: options, headers and reasons of refusals."""

    def __init__(
        self,
        schema: Mapping[str, Any],
        options: Sequence[dict[str, Any]],
        headers: Mapping[str, str],
        refusals: Sequence[tuple[str, ...]],
    ) -> None:
        self._routes = [
            (method.upper(), path, route)
            for path, methods in schema["paths"].items()
            for method, route in methods.items()
        ]
        self._schemas = schema.get("components", {}).get("schemas", {})
        self._options = {option["name"]: option for option in options}
        self._headers = headers
        self._refusals = refusals

    def markdown(self) -> str:
        """All of it."""
        lines = [
            "# API\n",
            "What each route takes and answers. [Options](#options), [headers](#headers-of-the-answer) and "
            "[refusals](#status-codes-and-refusals) are the same for all and stand at the end. The same as an OpenAPI "
            "schema: `GET /openapi.json`, and `/docs` to read and to try.\n",
            "A key is sent as `Authorization: Bearer KEY`.\n",
            *_table(
                ("route", "what"),
                ((f"[{m} {p}](#{anchor(f'{m} {p}')})", _first_sentence(r)) for m, p, r in self._own()),
            ),
        ]
        for method, path, route in self._own():
            lines += self._route(method, path, route)
        lines += [
            "\n## Options\n",
            "In the query, in the body, or as a header: `budget_ms` is `X-Strata-Budget-Ms`. Given in two places, they "
            "must agree. [Concepts](concepts.md) says what they are for.\n",
            *_table(
                ("option", "type", "what"),
                ((f"`{name}`", kind_of(o["schema"]), o["description"]) for name, o in self._options.items()),
            ),
            "\n## Headers of the answer\n",
            *_table(("header", "what it says"), ((f"`{name}`", told) for name, told in self._headers.items())),
            "\n## Status codes and refusals\n",
            "A request is refused whole. All refusals but 424, 500 and 504 come before anything is run. Each route "
            "names those that it gives; 404 and 405 are of paths. Where there are two status codes, the second is "
            "OpenAI's and Cohere's. The first three columns are the names of a refusal: the label `err` of "
            "`te_request_failure` in the metrics, `error_type` in text-embeddings-inference's protocol, and `code` in "
            "OpenAI's.\n",
            *_table(("label", "`error_type`", "`code`", "status", "when"), self._refusals),
            _ERRORS,
        ]
        return "\n".join(lines) + "\n"

    def _own(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        return ((method, path, route) for method, path, route in self._routes if SAME_AS not in route)

    def _route(self, method: str, path: str, route: dict[str, Any]) -> list[str]:
        lines = [f"\n## {method} {path}\n", " ".join(str(route.get("description", "")).split()) + "\n"]
        also = [f"`{m} {p}`" for m, p, other in self._routes if other.get(SAME_AS) == path]
        if also:
            lines.append(f"The same answers at {', '.join(also)}.\n")
        given = [p for p in route.get("parameters", ()) if p["in"] != "header"]
        body = route.get("requestBody", {}).get("content", {}).get("application/json", {})
        schema = body.get("schema", {})
        fields, needed = schema.get("properties", {}), schema.get("required", ())
        if any(p["name"] in self._options for p in given):
            places = "in query, headers or body" if fields else "in query or headers"
            lines.append(f"Takes the [options](#options), {places}.\n")
        rows = [_row(p["name"], p.get("schema", {}), p) for p in given if p["name"] not in self._options]
        lines += _table(("parameter", "type", "what"), rows)
        own = {name: field for name, field in fields.items() if not self._is_option(name, field)}
        shown = _first_example(body)
        first = sorted(own, key=lambda name: (name not in needed, name not in shown))
        rows = [_row(name, own[name], own[name], "Required. " if name in needed else "") for name in first]
        lines += _table(("field", "type", "what"), rows)
        lines += ["Example:\n", "```sh", _example(method, path, given, body), "```\n"]
        return lines + self._answer(route)

    def _is_option(self, name: str, field: dict[str, Any]) -> bool:
        """Whether a field is one of the options and says nothing else here."""
        return name in self._options and field.get("description") == self._options[name]["description"]

    def _answer(self, route: dict[str, Any]) -> list[str]:
        """The shape of the answer, and what its parts mean where the schema says it."""
        responses = route["responses"]
        content = responses["200"].get("content", {}).get("application/json", {})
        schema = content.get("schema", {})
        shape = json.dumps(content["example"]) if "example" in content else self._shape(schema)
        told = "" if (words := responses["200"]["description"]) == _NO_WORDS else f" {words.rstrip('.')}."
        refused = ", ".join(sorted(status for status in responses if status != "200"))
        return [
            f"Answer:{told}\n",
            *(("```text", shape, "```\n") if shape else ()),
            *_table(("of it", "what"), [(f"`{name}`", meant) for name, meant in self._meanings(schema)]),
            *((f"[Refused](#status-codes-and-refusals) with {refused}.\n",) if refused else ()),
        ]

    def _shape(self, schema: dict[str, Any], indent: int = 0) -> str:
        """As JSON with types instead of values."""
        schema = self._resolved(schema)
        inside = " " * (indent + 2)
        if properties := schema.get("properties"):
            parts = [
                f"{inside}{json.dumps(name)}: {self._shape(part, indent + 2)}" for name, part in properties.items()
            ]
            return "{\n" + ",\n".join(parts) + "\n" + " " * indent + "}"
        if schema.get("type") == "array" and "items" in schema:
            return f"[{self._shape(schema['items'], indent)}]"
        if isinstance(schema.get("additionalProperties"), dict):
            return f'{{"...": {self._shape(schema["additionalProperties"], indent)}}}'
        if "anyOf" in schema:
            return " or ".join(self._shape(part, indent) for part in schema["anyOf"])
        return json.dumps(schema["const"]) if "const" in schema else kind_of(schema) if schema else ""

    def _meanings(self, schema: dict[str, Any]) -> Iterator[tuple[str, str]]:
        schema = self._resolved(schema)
        for part in (schema.get("items"), *schema.get("properties", {}).values()):
            yield from self._meanings(part) if part else ()
        for name, part in schema.get("properties", {}).items():
            if told := part.get("description"):
                yield name, told

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        name = schema.get("$ref", "").rpartition("/")[2]
        found: dict[str, Any] = self._schemas[name] if name else schema
        return found


def _first_sentence(route: dict[str, Any]) -> str:
    return " ".join(str(route.get("description", "")).split()).split(". ")[0].rstrip(".")


def _example(method: str, path: str, parameters: Iterable[dict[str, Any]], body: dict[str, Any]) -> str:
    """A call that can be typed: the schema's first example, or the values that its parameters have by default."""
    asked = []
    for parameter in parameters:
        value = parameter.get("example", parameter.get("schema", {}).get("default"))
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", str(value))
        elif value is not None:
            asked.append(f"{parameter['name']}={value}")
    url = f"{_AT}{path}" + (f"?{'&'.join(asked)}" if asked else "")
    quoted = f"'{url}'" if asked else url
    if not body:
        return f"curl {quoted}"
    return f"curl {quoted} -H 'Content-Type: application/json' \\\n     -d '{json.dumps(_first_example(body))}'"


def _first_example(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(iter(body["examples"].values()))["value"] if body else {}
    return found


def _row(name: str, schema: dict[str, Any], described: dict[str, Any], before: str = "") -> tuple[str, str, str]:
    told, default = described.get("description", ""), schema.get("default")
    after = "" if default is None or "Default:" in told else f" Default: {json.dumps(default)}."
    return f"`{name}`", kind_of(schema), f"{before}{told}{after}"


def _table(head: tuple[str, ...], rows: Iterable[Sequence[str]]) -> list[str]:
    made = [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *made, ""] if made else []
