"""The parser of every command: what cannot be is told in one plain line that names it, with exit status 2."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

# argparse's words -> plain ones.
_PLAIN = (
    (r"argument ", ""),
    (r"(.+): expected one argument", r"\1: needs a value"),
    (r"(.+): expected at least one argument", r"\1: needs one value or more"),
    (r"(.+): ignored explicit argument '(.*)'", r"\1: takes no value. Given: \2"),
    (r"ambiguous option: (\S+) could match (.+)", r"\1: may be any of \2; write it out"),
    (r"the following arguments are required: (.+)", r"missing: \1"),
)


class Parser(argparse.ArgumentParser):
    """Says what is wrong without the usage, which would bury it; subcommands have parsers of this kind, too."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does, but whatever a subcommand does not know it refuses itself, by its own name."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"{unknown[0]}: not known here; `{self.prog} --help` tells what is")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """End the command with one line."""
        for pattern, plain in _PLAIN:
            message = re.sub(f"^{pattern}", plain, message, flags=re.DOTALL)
        line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
        print(f"{self.prog}: {line}", file=sys.stderr)
        sys.exit(2)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, must_be_one_of(list(action.choices), value))


def must_be_one_of(choices: Sequence[object], given: object) -> str:
    """What is said of a value that is none of those there are."""
    return f"must be one of {', '.join(map(str, choices))}. Given: {given}"
