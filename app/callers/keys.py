"""`strata keys`: fresh API keys."""

from __future__ import annotations

import argparse
import secrets
from hashlib import sha256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser(
        "new",
        help="print a fresh key and its hash",
        description="Print a fresh key, for the caller, and its hash, for the tier's `keys` in the file of --tiers.",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print a key that nobody has had, and the line that lets it in."""
    key = "sk-strata-" + secrets.token_urlsafe(32)
    print(f"key, for the caller; it is kept nowhere:\n{key}\n")
    print(f'line, for the `keys` of a tier in the file of --tiers:\n"sha256:{sha256(key.encode()).hexdigest()}",')
    return 0
