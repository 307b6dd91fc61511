"""The options every benchmark has, and the server they ask for."""

from __future__ import annotations

import argparse
from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from strata.arguments import count, server
from strata.parser import Parser

if TYPE_CHECKING:
    from strata.loadtest.connection import Address
    from strata.loadtest.processes import ServerProcess


def add_common(parser: argparse.ArgumentParser, *, rounds: int) -> None:
    """Texts, rounds, the JSON file, and after ``--`` the options of the server that is started."""
    parser.add_argument("--texts", type=Path, metavar="FILE", help="one text a line (default: Python's own manual)")
    parser.add_argument(
        "--rounds", type=count, default=rounds, metavar="N", help="measurements (turns) of each variant (%(default)s)"
    )
    parser.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=Path("-"),
        metavar="FILE",
        help="print figures and raw rounds as JSON, or write them to FILE and print the tables",
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with tables and pictures here")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a bar is missed")
    parser.add_argument(
        "serve_options", nargs="*", metavar="-- SERVE_OPTION", help="options of `strata serve`, after a lone --"
    )


def add_url(parser: argparse.ArgumentParser) -> None:
    """Let a server that is already running be measured."""
    parser.add_argument(
        "--url", type=server, metavar="URL", help="a running server (default: one is started and stopped)"
    )


def own_server(args: argparse.Namespace, *options: str) -> ServerProcess:
    """A `strata serve` with the options given and a benchmark's own, not yet started."""
    from strata.loadtest.processes import ServerProcess, strata_serve

    return ServerProcess(strata_serve(["--no-log-requests", *args.serve_options, *options]), ready_path="/ready")


def any_server(args: argparse.Namespace, *options: str) -> AbstractAsyncContextManager[HasAddress]:
    """The server at ``--url``, or one of our own."""
    return nullcontext(RunningServer(args.url)) if args.url else own_server(args, *options)


class HasAddress(Protocol):
    """A server, whoever started it."""

    address: Address


class RunningServer:
    """A server somebody else started and will stop."""

    def __init__(self, url: str) -> None:
        from strata.loadtest.connection import Address

        self.address: Address = Address.parse(url)


def served_folder(args: argparse.Namespace) -> Path:
    """The folder of the bundle that the server options name. Raises NotFoundError when there is none."""
    from strata.app import settings
    from strata.model_store.bundle import registry

    parser = Parser(prog="strata serve")
    settings.add_arguments(parser)
    return registry.find(settings.from_arguments(vars(parser.parse_args(args.serve_options))).model or registry.DEFAULT)
