"""What a caller asks of depth, length, type and time: read from query, body and headers, and refused if ignored."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from math import isfinite
from typing import Any, get_args
from urllib.parse import parse_qsl

from pydantic import BaseModel
from starlette.types import Scope

from strata.app.api.elastic_body import EXITS_TOLD, MOST_EXITS, ElasticBody
from strata.app.api.misspelt import refuse_misspelt
from strata.app.api.refusals import VALIDATION, Refusal
from strata.app.callers.callers import Caller, TierRefused
from strata.app.callers.tier import Exits
from strata.app.headers import header_text
from strata.app.planning.plan import Ask
from strata.model_store.bundle.output_types import OUTPUT_TYPES
from strata.model_store.bundle.prompts import InputType

_CACHED_QUERY = 256  # bytes of the longest query string whose options are kept
_INPUT_TYPES: tuple[str, ...] = get_args(InputType)


def whole(name: str, text: str) -> int:
    """A whole number written in a query or a header. Raises Refusal."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Refusal(VALIDATION, f"`{name}` must be a whole number. Given: {text[:50]}", name)
    return int(text)


def size_of(scope: Scope, name: str, default: int, most: int) -> int:
    """A whole number between 1 and ``most`` in the query. Raises Refusal."""
    query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    one = name.removesuffix("s")
    if any(key == one for key, _ in query):  # a `text` instead of `texts` would be ignored
        raise Refusal(VALIDATION, f"`{one}` is no option here; the name is `{name}`", one)
    given = list(dict.fromkeys(text for key, text in query if key == name))
    if len(given) > 1:
        raise Refusal(VALIDATION, f"`{name}` is given twice and differs: {given[0]:.50}, {given[1]:.50}", name)
    size = whole(name, given[0]) if given else default
    if not 1 <= size <= most:
        raise Refusal(VALIDATION, f"`{name}` must be between 1 and {most}. Given: {size}", name)
    return size


def _layers(name: str, text: str) -> int | str:
    return text if text == "auto" else whole(name, text)


def _number(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1
    if not (isfinite(number) and number > 0):
        raise Refusal(VALIDATION, f"`{name}` must be a number above 0. Given: {text[:50]}", name)
    return number


def _text(name: str, text: str) -> str:
    return text


def _one_of(words: tuple[str, ...]) -> Callable[[str, str], str]:
    def read(name: str, text: str) -> str:
        if text not in words:
            raise Refusal(VALIDATION, f"`{name}` must be one of {', '.join(words)}. Given: {text[:50]}", name)
        return text

    return read


def _exits(name: str, given: str | list[int]) -> Exits:
    if given == "shared":
        return "shared"
    parts = given.split(",") if isinstance(given, str) else map(str, given[: MOST_EXITS + 1])
    texts = [part.strip() for part in parts]
    if not 0 < len(texts) <= MOST_EXITS or not all(re.fullmatch("[0-9]{1,9}", text) for text in texts):
        raise Refusal(VALIDATION, f"`{name}` {EXITS_TOLD}. Given: {str(given)[:50]}", name)
    return tuple(sorted(set(map(int, texts))))


@dataclass(slots=True, frozen=True)
class _Option:
    """A field of Ask, and how it is read from text."""

    field: str
    read: Callable[[str, str], Any]
    schema: dict[str, Any]


_WHOLE, _ABOVE_0 = {"type": "integer", "minimum": 1}, {"type": "number", "exclusiveMinimum": 0}
_OPTIONS = {
    "layers": _Option("layers", _layers, {"oneOf": [{**_WHOLE, "minimum": 0}, {"const": "auto"}]}),
    "dim": _Option("dim", whole, _WHOLE),
    "dimensions": _Option("dim", whole, _WHOLE),
    "output_dimension": _Option("dim", whole, _WHOLE),
    "output_dtype": _Option("output_dtype", _one_of(OUTPUT_TYPES), {"enum": OUTPUT_TYPES}),
    "budget_ms": _Option("budget_ms", _number, _ABOVE_0),
    "min_quality": _Option("min_quality", _number, _ABOVE_0),
    "min_layers": _Option("min_layers", whole, _WHOLE),
    "exits": _Option("exits", _exits, {"type": "string", "pattern": r"^(shared|\d+(,\d+)*)$"}),
    "tier": _Option("tier", _text, {"type": "string"}),
    "space": _Option("space", _text, {"type": "string"}),
    "input_type": _Option("input_type", _one_of(_INPUT_TYPES), {"enum": _INPUT_TYPES}),
    "task": _Option("task", _text, {"type": "string"}),
}
_HEADER_NAMES = {name: "X-Strata-" + name.replace("_", "-").title() for name in _OPTIONS}
_OUR_HEADERS = (b"x-strata-", b"x-strata_", b"x_strata-", b"x_strata_")  # as they are sent, and misspelt
_X = ord("x")
_NAMES = frozenset(_OPTIONS)
# Fields of some bodies that are read nowhere else.
_BODY_ONLY = frozenset(
    {
        "normalize",
        "truncate",
        "truncation",
        "truncation_direction",
        "prompt_name",
        "encoding_format",
        "embedding_types",
        "max_tokens",
    }
)
# Values that ask for what is done anyway: they pass where the field itself would be refused.
_DONE_ANYWAY = {"normalize": True, "encoding_format": "float", "embedding_types": ["float"]}
_NOTHING = Ask()


def _docs(place: str, name: str, written: str) -> dict[str, Any]:
    description = ElasticBody.model_fields[name].description
    return {
        "name": written,
        "in": place,
        "required": False,
        "schema": _OPTIONS[name].schema,
        "description": description,
    }


# A client library that fixes the body can still be pointed at `/embed?layers=6&dim=256`, or be given headers.
QUERY_DOCS: list[dict[str, Any]] = [_docs("query", name, name) for name in _OPTIONS]
ASK_DOCS = QUERY_DOCS + [_docs("header", name, header) for name, header in _HEADER_NAMES.items()]


def ask_of(scope: Scope, body: ElasticBody | None = None) -> Ask:
    """The ask of a request. Raises Refusal naming the field where a value cannot be, or two places differ."""
    said: dict[str, tuple[Any, str]] = {}  # field of Ask -> value, where it was said
    for name, value, where in _given(scope, body):
        field = _OPTIONS[name].field
        first, first_where = said.setdefault(field, (value, where))
        if first != value:
            values = f"{first_where} is {first!s:.100}, {where} is {value!s:.100}"
            raise Refusal(VALIDATION, f"`{field}` is given twice and differs: {values}", field)
    return Ask(**{field: value for field, (value, _) in said.items()}) if said else _NOTHING


def known_deadline_s(scope: Scope, caller: Caller) -> float | None:
    """The deadline in seconds of a request whose body is not read yet, as query, headers and key tell it.

    None where they tell none. A mistake in them is left for the endpoint to refuse.
    """
    try:
        ask = ask_of(scope)
        return ask.deadline_s(caller.tier(ask.tier).deadline_s)
    except (Refusal, TierRefused):
        return caller.own.deadline_s


@cache
def _fields(kind: type[ElasticBody]) -> frozenset[str]:
    return frozenset(kind.model_fields)


def _given(scope: Scope, body: ElasticBody | None) -> Iterator[tuple[str, Any, str]]:
    """Every option given, as (option, value, where it was said). Raises Refusal for one that would be ignored."""
    if body is not None:
        if body.model_extra:
            _refuse_extra_fields(body.model_extra, _fields(type(body)))
        for name in body.model_fields_set & _OPTIONS.keys():
            value = getattr(body, name)
            if value is not None:
                yield name, _exits(name, value) if name == "exits" else value, f"`{name}` in the body"
    if scope["query_string"]:
        query, method = scope["query_string"], scope["method"]
        yield from (_cached_in_query if len(query) <= _CACHED_QUERY else _in_query)(query, method)
    for header, raw in scope["headers"]:
        if header[0] == _X and header.startswith(_OUR_HEADERS):
            name = _option_of(header)
            yield name, _OPTIONS[name].read(name, header_text(raw)), f"the header {_HEADER_NAMES[name]}"


def _in_query(query: bytes, method: str) -> tuple[tuple[str, Any, str], ...]:
    """Options in a query. Raises Refusal."""
    found = []
    for name, text in parse_qsl(header_text(query), keep_blank_values=True):
        if name in _OPTIONS:
            found.append((name, _OPTIONS[name].read(name, text), f"`{name}` in the query"))
        elif method == "POST" or name not in _BODY_ONLY:  # `GET /plan` has no body: there these fields pass
            _refuse_misplaced(name)
    return tuple(found)


_cached_in_query = lru_cache(1000)(_in_query)  # clients send the same query again and again


def _option_of(header: bytes) -> str:
    """The option that an X-Strata- header sets. Raises Refusal for any other: nobody sends one for nothing."""
    written = header.decode("latin-1")
    name = written[len("x-strata-") :].replace("-", "_")
    if name not in _OPTIONS:
        _refuse_misplaced(name)
        names = ", ".join(_HEADER_NAMES.values())
        raise Refusal(VALIDATION, f"`{written[:50]}` is no header here; there are {names}", written[:50])
    if "_" in written:  # a proxy on the way would drop it
        raise Refusal(VALIDATION, f"`{written}` is no header here; the name is {_HEADER_NAMES[name]}", name)
    return name


def refuse_asks(scope: Scope, body: BaseModel | None = None) -> None:
    """Refuse options of an embedding on a route that embeds nothing, and its own fields in the query. Raises Refusal.

    Headers pass: a client that sets them once sends them with every request.
    """
    extra, fields = (body.model_extra or {}, type(body).model_fields) if body else ({}, {})
    for name, _ in parse_qsl(header_text(scope["query_string"]), keep_blank_values=True):
        if name in fields:
            raise Refusal(VALIDATION, f"`{name}` is read in the body alone", name)
        _refuse_ask(name)
    for name, value in extra.items():
        if value is not None and value != _DONE_ANYWAY.get(name):
            _refuse_ask(name)


def _refuse_ask(name: str) -> None:
    """Refuse one option of an embedding, also misspelt. Raises Refusal."""
    refuse_misspelt((name,), _NAMES)
    if name in _NAMES or name in _BODY_ONLY:
        raise Refusal(VALIDATION, f"`{name}` is no option here: no text is embedded", name)


def _refuse_extra_fields(extra: Mapping[str, Any], known: frozenset[str]) -> None:
    """Refuse fields of a body that ask for something and would be ignored: its model has none of them. Raises Refusal.

    ``known``: the fields that it has. What is no option of Strata's, under any spelling, passes.
    """
    refuse_misspelt(extra, known)
    for name in extra.keys() & _BODY_ONLY:
        if extra[name] is not None and extra[name] != _DONE_ANYWAY.get(name):
            raise Refusal(VALIDATION, f"`{name}` is no field here. Given: {extra[name]!s:.50}", name)
    within = extra.get("parameters")
    if isinstance(within, dict):
        refuse_within(within, "parameters")


def refuse_within(extra: Mapping[str, Any], where: str) -> None:
    """Refuse options given inside the field ``where``, in which none is read. Raises Refusal."""
    for name in extra.keys() & _NAMES:
        raise Refusal(VALIDATION, f"`{where}.{name}`: `{name}` is given beside `{where}`, not within it", name)


def _refuse_misplaced(name: str) -> None:
    """Refuse a name in the query or a header that is a misspelt option, or a field of the body. Raises Refusal."""
    if name in _BODY_ONLY:
        raise Refusal(VALIDATION, f"`{name}` is read in the body alone", name)
    refuse_misspelt((name,), _NAMES)
