"""How commands ask a running server: its answer, or a line that says why there is none."""

from __future__ import annotations

import json
import os
import re
from functools import partial
from http.client import HTTPException, HTTPResponse
from urllib.error import HTTPError, URLError
from urllib.request import HTTPHandler, ProxyHandler, Request, build_opener, urlopen

from strata.app.unix_connection import UnixConnection
from strata.arguments import SOCKET

KEY = "STRATA_KEY"  # the variable of the environment that an API key is read from


class NotAnsweredError(Exception):
    """No answer, or none that can be used; the message is one line."""


def ask(url: str, path: str, timeout_s: float) -> str:
    """What a server at ``url`` (or ``unix:PATH``, its socket) answers to GET ``path``. Raises NotAnsweredError."""
    headers = {}
    if key := os.environ.get(KEY):
        if not re.fullmatch("[!-~]+", key):
            raise NotAnsweredError(f"{KEY} must be printable ASCII without spaces, as it is sent in a header")
        headers["Authorization"] = f"Bearer {key}"
    try:
        with _open(url, path, headers, timeout_s) as answer:
            return str(answer.read().decode())
    except HTTPError as error:
        raise NotAnsweredError(_refusal(error) or f"{url}: {error}") from error
    except URLError as error:
        reason = error.reason
        raise NotAnsweredError(f"{url}: {getattr(reason, 'strerror', None) or reason}") from error
    except HTTPException as error:  # what came was no HTTP
        raise NotAnsweredError(f"{url}: {type(error).__name__}: what answers there does not speak HTTP") from error
    except (OSError, ValueError) as error:
        raise NotAnsweredError(f"{url}: {error}") from error


class _OverSocket(HTTPHandler):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def http_open(self, request: Request) -> HTTPResponse:
        return self.do_open(partial(UnixConnection, self._path), request)


def _open(url: str, path: str, headers: dict[str, str], timeout_s: float) -> HTTPResponse:
    if url.startswith(SOCKET):
        opener = build_opener(ProxyHandler({}), _OverSocket(url.removeprefix(SOCKET)))
        found: HTTPResponse = opener.open(Request(f"http://localhost{path}", headers=headers), timeout=timeout_s)
    else:
        found = urlopen(Request(url + path, headers=headers), timeout=timeout_s)
    return found


def no_strata(url: str) -> NotAnsweredError:
    """What answered is another server."""
    return NotAnsweredError(f"{url}: what answers there is no Strata server")


def _refusal(error: HTTPError) -> str | None:
    """Why a Strata server refused, in its own words; None where another one did."""
    try:
        told = json.load(error)["error"]
    except (ValueError, KeyError, TypeError, OSError, HTTPException):
        return None
    return told if isinstance(told, str) else None
