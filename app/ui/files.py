"""The explorer's files, and the page with what it must know of the server filled in."""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from html import escape
from pathlib import Path, PurePosixPath
from string import Template

_HERE = Path(__file__).parent / "static"

MEDIA = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".txt": "text/plain; charset=utf-8",
}


@cache
def file(name: str) -> tuple[bytes, str, str]:
    """Content, media type and ETag of a file, by its path. Raises KeyError where there is none of that name."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or path.suffix not in MEDIA or not (_HERE / path).is_file():
        raise KeyError(name)
    content = (_HERE / path).read_bytes()
    return content, MEDIA[path.suffix], etag(content)


@cache
def page(root: str, api_port: int | None) -> tuple[bytes, str]:
    """The page and its ETag. ``root`` is where the server's paths begin, ``api_port`` where texts go, if not here."""
    shell = Template((_HERE / "index.html").read_text(encoding="utf-8"))
    content = shell.substitute(root=escape(root), api_port=api_port or "").encode()
    return content, etag(content)


def etag(content: bytes) -> str:
    """Of the content alone, so that every replica says the same."""
    return f'"{blake2b(content, digest_size=12).hexdigest()}"'
