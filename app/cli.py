"""The `strata` command."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

# Command -> (module with add_arguments(parser) and run(arguments) -> exit status, what it does). Only the chosen
# command's module is imported, so that `strata serve` never pays for training and no command pays for another.
COMMANDS = {
    "serve": ("app.serve", "serve a model over HTTP"),
    "plan": ("app.planning.command", "ask a running server what it would run, and why"),
    "keys": ("app.planning.keys", "make API keys"),
    "models": ("model_store.command", "list, add and verify models"),
    "profile": ("model_store.profiling.command", "measure what a model is worth at every exit"),
    "train": ("model_store.training.command", "train a 2D Matryoshka model"),
    "loadtest": ("loadtest.command", "measure a running server"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        prog="strata", description="Elastic embedding server: the first N layers of a 2D Matryoshka encoder."
    )
    parser.add_argument("--version", action="version", version=f"strata {installed_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    chosen: ModuleType | None = None
    for name, (module, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
        if name == next((word for word in given if not word.startswith("-")), None):
            chosen = importlib.import_module(module)
            chosen.add_arguments(command)
    commands.add_parser("version", help="print the version")

    options = parser.parse_args(given)
    if chosen is None:
        print(f"strata {installed_version()}")
        return 0
    return int(chosen.run(options) or 0)


def installed_version() -> str:
    """The version of the installed package, or "0" when run from a tree that is not installed."""
    try:
        return version("strata-embed")
    except PackageNotFoundError:
        return "0"


if __name__ == "__main__":
    sys.exit(main())
