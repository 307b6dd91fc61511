"""Routes that read and write their own bytes, and still describe themselves in /docs.

FastAPI's own handling (dependencies, then json.loads, then validation, then serialisation of the answer) costs several
times what parsing straight into the model does, so a route here gets the plain request and says its schemas itself.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


class PlainRoute(APIRoute):
    """Calls its endpoint with the request, and sends what it returns."""

    def get_route_handler(self) -> Endpoint:
        """The endpoint itself, instead of FastAPI's machinery around it."""
        return self.endpoint


def body_docs(
    model: type[BaseModel], *, examples: dict[str, Any], parameters: list[dict[str, Any]] | None = None
) -> Any:
    """``openapi_extra`` of a route that reads ``model`` from its body."""
    schema = model.model_json_schema(ref_template="#/$defs/{model}")
    content = {
        "schema": _inlined(schema, schema.pop("$defs", {})),
        "examples": {name: {"value": value} for name, value in examples.items()},
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}, "parameters": parameters or []}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema without references: OpenAPI keeps definitions elsewhere than pydantic does."""
    if isinstance(schema, list):
        return [_inlined(part, definitions) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rsplit("/", 1)[-1]] | {k: v for k, v in schema.items() if k != "$ref"}
    return {key: _inlined(value, definitions) for key, value in schema.items()}
