"""`strata health`: whether the server of this machine or container answers, wherever its options put it.

Meant for health checks inside a container. It follows the server itself: the sockets that the process called
`strata serve` listens on, as Linux tells them.
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

from strata.app.unix_connection import UnixConnection

_PROC = Path("/proc")
_LISTENING_TCP, _LISTENING_UNIX = "0A", "00010000"  # the state of one, the flags of the other
_TIMEOUT_S = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = (
        "Ask every `strata serve` of this machine or container for /health, wherever it listens. Exit status 0 when "
        "all of them answer, 1 when one does not or none runs."
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what each server says; the exit status."""
    servers = list(_servers())
    if not servers:
        print("no `strata serve` runs here")
    healthy = bool(servers)
    for process in servers:
        places = list(_places(process))
        answered = [place for place in places if _answers(place)]
        print(
            f"process {process.name}: {'alive' if answered else 'no answer'} at {', '.join(answered or places) or '-'}"
        )
        healthy = healthy and bool(answered)
    return 0 if healthy else 1


def _servers() -> Iterator[Path]:
    """Processes of this user that are `strata serve`."""
    for folder in _PROC.glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_text(encoding="utf-8", errors="replace").split("\0")
            mine = folder.stat().st_uid == os.getuid()
        except OSError:  # it has ended
            continue
        if mine and _is_python(words[0]) and "serve" in _after_strata(words[:6]):
            yield folder


def _is_python(word: str) -> bool:
    """Not what waits for the server: tini, as process 1 of the image, has the same words behind its own."""
    return os.path.basename(word).startswith(("python", "strata"))


def _after_strata(words: list[str]) -> list[str]:
    """The word that follows the command's name."""
    return next((words[n + 1 : n + 2] for n, word in enumerate(words) if _is_strata(word)), [])


def _is_strata(word: str) -> bool:
    return word == "strata.app.cli" or os.path.basename(word) == "strata"


def _places(process: Path) -> Iterator[str]:
    """HOST:PORT, or the path of a Unix socket, for each socket the process listens on."""
    own = set()
    for descriptor in (process / "fd").iterdir():
        try:
            if found := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(descriptor)):
                own.add(found[1])
        except OSError:
            continue
    for family in ("tcp", "tcp6"):
        for fields in _table(process / "net" / family):
            if fields[3] == _LISTENING_TCP and fields[9] in own:
                yield _tcp_place(*fields[1].split(":"))
    for fields in _table(process / "net" / "unix"):
        if fields[3] == _LISTENING_UNIX and fields[6] in own and len(fields) > 7:
            yield fields[7]


def _table(file: Path) -> list[list[str]]:
    try:
        return [line.split() for line in file.read_text(encoding="utf-8").splitlines()[1:]]
    except OSError:  # a kernel without this family
        return []


def _tcp_place(address: str, port: str) -> str:
    """From /proc's words of four bytes in the machine's order; every address is asked at loopback."""
    raw = b"".join(bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8))
    host = socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]:{int(port, 16)}" if ":" in host else f"{host}:{int(port, 16)}"


def _answers(place: str) -> bool:
    if "/" in place:
        connection: http.client.HTTPConnection = UnixConnection(place, timeout=_TIMEOUT_S)
    else:
        connection = http.client.HTTPConnection(place, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
