"""Whatever the OpenAPI schema allows, and what it does not: only answers that the schema declares, never a 500."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckContext
from schemathesis.core.result import Ok
from schemathesis.core.transport import Response
from schemathesis.specs.openapi import checks

from strata.app.engine.options import EngineOptions
from strata.app.engine.pool import EnginePool
from strata.app.main import create_app
from strata.app.settings import Settings
from tests.conftest import RunningServer

_DOCUMENT = create_app(Settings(), EnginePool(Path("not opened"), EngineOptions())).openapi()
_FOUND = list(schemathesis.openapi.from_dict(_DOCUMENT).get_all_operations())
_OPERATIONS = [found.ok() for found in _FOUND if isinstance(found, Ok)]
assert len(_OPERATIONS) == len(_FOUND)
# What takes nothing, or a word in its path, cannot be asked wrongly.
_CASES = [
    (operation, mode)
    for operation in _OPERATIONS
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if mode is GenerationMode.POSITIVE
    or "requestBody" in (told := _DOCUMENT["paths"][operation.path][operation.method])
    or any(parameter["in"] != "path" for parameter in told.get("parameters", ()))
]


def no_internal_error(context: CheckContext, response: Response, case: Case[Any]) -> None:
    """503 and 504 are answers with a reason; 500 is a fault of the server's."""
    assert response.status_code != 500, response.text


def test_the_running_server_describes_itself_so(victim: RunningServer) -> None:
    told = victim.client.get("/openapi.json").json()
    assert told.pop("servers") == [{"url": "/"}]  # where this one is reached
    assert told["components"].pop("securitySchemes").keys() == {"key"}  # how a key is said, for /docs
    told.pop("security", None)
    assert told == _DOCUMENT


@pytest.mark.parametrize(("operation", "mode"), _CASES, ids=lambda part: getattr(part, "label", None) or part.value)
def test_every_operation_answers_as_it_says(victim: RunningServer, operation: Any, mode: GenerationMode) -> None:
    declared = [
        no_internal_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=30,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Case[Any]) -> None:
        case.call_and_validate(base_url=victim.url, session=session, checks=declared, timeout=20)

    with requests.Session() as session:
        ask()
    assert victim.client.get("/ready").status_code == 200
