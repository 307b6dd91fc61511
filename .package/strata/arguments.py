"""Values of options that several commands have; what cannot be is refused by saying what can."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from math import isfinite
from urllib.parse import urlsplit

SOCKET = "unix:"  # before the path of a Unix socket, instead of an address


def count(text: str) -> int:
    """A whole number, 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"must be a whole number, 1 or more. Given: {text}")
    return int(text)


def whole(text: str) -> int:
    """A whole number, 0 or more."""
    if not text.isdecimal():
        raise ArgumentTypeError(f"must be a whole number, 0 or more. Given: {text}")
    return int(text)


def counts(text: str) -> tuple[int, ...]:
    """Some of them, with commas between them."""
    return tuple(count(part.strip()) for part in text.split(","))


def exits(text: str) -> tuple[int, ...]:
    """Layers, with commas between them; 0 is the embeddings alone."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ArgumentTypeError(f"must be layers with commas between them, as 3,6,12. Given: {text}")
    return tuple(map(int, parts))


def device(text: str) -> str:
    """What runs a model: a CPU or one GPU."""
    if re.fullmatch(r"cpu|cuda(:\d{1,2})?", text, re.ASCII) is None:
        raise ArgumentTypeError(f"must be cpu, cuda or cuda:N. Given: {text}")
    return text


def positive(text: str) -> float:
    """A number above 0 that is not infinite."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (isfinite(value) and value > 0):
        raise ArgumentTypeError(f"must be a number above 0. Given: {text}")
    return value


def at_least_0(text: str) -> float:
    """A number, 0 or more, that is not infinite."""
    if re.fullmatch(r"[0-9]+(\.[0-9]*)?", text) is None:
        raise ArgumentTypeError(f"must be a number, 0 or more. Given: {text}")
    return float(text)


def positives(text: str) -> tuple[float, ...]:
    """Some of them, with commas between them."""
    return tuple(positive(part) for part in text.split(","))


def share(text: str) -> float:
    """A number above 0 and at most 1."""
    if (value := positive(text)) > 1:
        raise ArgumentTypeError(f"must be a number above 0 and at most 1. Given: {text}")
    return value


def server(text: str) -> str:
    """The address of a server; ``http://`` may be left out, and a path be given under which a proxy has it."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        known = known and not (parts.username or parts.query or parts.fragment or re.search(r"[\s\0-\x1f\x7f]", url))
    except ValueError:  # a port or a bracket that is none
        known = None
    if re.match("(http://)?unix:", text):
        raise ArgumentTypeError(
            f"must be an address with host and port, as a Unix socket is not asked here. Given: {text}"
        )
    if not known:
        raise ArgumentTypeError(f"must be the address of a server, as http://127.0.0.1:8080. Given: {text}")
    return url.rstrip("/")


def server_or_socket(text: str) -> str:
    """The address of a server, or ``unix:`` and the path of the socket of its --uds."""
    path = re.sub("^(http://)?unix:(//(?=/))?", "", text)
    return server(text) if path == text else SOCKET + path
