"""A retrieval set that every machine has: docstrings of Python's library, whose first line asks for the rest."""

from __future__ import annotations

import ast
import platform
import sysconfig
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from strata.model_store.profiling.beir import RetrievalSet

_PACKAGES = (
    *("asyncio", "collections", "concurrent", "email", "html", "http", "importlib", "json", "logging", "unittest"),
    *("multiprocessing", "tkinter", "urllib", "wsgiref", "xml", "xmlrpc", "zoneinfo"),
)
_LONGEST = 500  # characters of a document
_FEWEST = 8, 4  # words of a document and of a query
_QUERIES = 500


def docstring_set() -> RetrievalSet:
    """Some thousand documents, 500 queries; the same for one version of Python. Raises ValueError without sources."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for text in _docstrings(Path(sysconfig.get_path("stdlib"))):
        first, _, rest = text.partition("\n")
        query, document = " ".join(first.split()), " ".join(rest.split())[:_LONGEST]
        long_enough = len(document.split()) >= _FEWEST[0] and len(query.split()) >= _FEWEST[1]
        if long_enough and query not in found and document not in seen:
            found[query] = document
            seen.add(document)
    if len(found) < _QUERIES:
        raise ValueError("the sources of Python's standard library are not there; name documents with --beir")
    chosen = list(found)[:: len(found) // _QUERIES][:_QUERIES]
    place = {query: f"d{i}" for i, query in enumerate(found)}
    return RetrievalSet(
        f"docstrings of Python {platform.python_version()}",
        {f"q{i}": query for i, query in enumerate(chosen)},
        {place[query]: document for query, document in found.items()},
        {f"q{i}": {place[query]: 1} for i, query in enumerate(chosen)},
    )


def _docstrings(folder: Path) -> Iterator[str]:
    files = [*folder.glob("*.py"), *(file for name in _PACKAGES for file in (folder / name).rglob("*.py"))]
    for file in sorted(files):
        if "test" in file.parts[-2:] or "tests" in file.parts:
            continue
        for node in _statements(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text:
                    yield text


def _statements(tree: ast.AST) -> Iterator[ast.AST]:
    """In the order of `ast.walk`, without the expressions, which hold no docstrings and are ten times as many."""
    waiting = deque([tree])
    while waiting:
        node = waiting.popleft()
        yield node
        for field in ("body", "handlers", "orelse", "finalbody", "cases"):
            waiting.extend(getattr(node, field, ()))
