"""The `strata` command."""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    del sys.path[0]  # `python -m` puts the working directory there, whose files must not be imported

import argparse
import contextlib
import importlib
import os
import signal
from collections.abc import Sequence
from io import TextIOWrapper
from types import ModuleType

from strata import PLACE, __version__
from strata.parser import Parser

# Command -> (module with add_arguments(parser) and run(arguments) -> exit status, what it does). Only the chosen
# command's module is imported, so that `strata serve` never pays for training and no command pays for another.
COMMANDS = {
    "serve": ("strata.app.serve", "serve a model over HTTP"),
    "health": ("strata.app.health", "ask the server of this machine or container whether it answers"),
    "plan": ("strata.app.planning.command", "ask a running server what it would run, and why"),
    "top": ("strata.app.top.command", "show a running server, live in the terminal"),
    "keys": ("strata.app.callers.keys", "make API keys"),
    "models": ("strata.model_store.command", "list, add and verify models"),
    "profile": ("strata.loadtest.profile.command", "measure what a model is worth at every exit"),
    "sets": ("strata.model_store.profiling.sets_command", "make retrieval sets from pairs kept out of training"),
    "train": ("strata.model_store.training.command", "train a 2D Matryoshka model"),
    "loadtest": (
        "strata.loadtest.command",
        "run benchmarks of speed, depth, deadlines and size",
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name in another script must not end a command
    try:
        try:
            return _run(arguments)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where its failure can be told
    except BrokenPipeError:  # the reader has seen enough, as in `strata models list | head -1`
        _let_go_of_stdout()
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except OSError as error:
        _let_go_of_stdout()
        print(f"strata: {error}", file=sys.stderr)
        return 1


def _let_go_of_stdout() -> None:
    """What is still to be written goes nowhere, so that the interpreter's own flush at its end does not fail."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: Sequence[str] | None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = Parser(
        prog="strata",
        description="Elastic embedding server: the first N layers of a 2D Matryoshka encoder.",
        formatter_class=argparse.RawDescriptionHelpFormatter,  # which leaves the version's line whole
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen: ModuleType | None = None
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == next((word for word in given if not word.startswith("-")), None):
            chosen = importlib.import_module(module)
            chosen.add_arguments(command)
    commands.add_parser("version", help="print the version")

    options = parser.parse_args(given)
    if chosen is None:
        print(_version())
        return 0
    return int(chosen.run(options) or 0)


def _version() -> str:
    return f"strata {__version__} ({PLACE})"


if __name__ == "__main__":
    sys.exit(main())
