"""`strata plan`: ask a running server what it would run, and why."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any
from urllib.parse import urlencode

from strata import terminal
from strata.app.client import KEY, NotAnsweredError, ask, no_strata
from strata.app.counted import counted
from strata.arguments import count, positive, server_or_socket, share

_TIMEOUT_S = 30
_URL = "http://127.0.0.1:8080"
_RATE, _CORES, _BUSY = 100.0, 2, 0.6
_SIZING = frozenset({"model", "rate", "cores", "busy"})
_WRONG = 2  # the exit status where options cannot be
_ASKS = {
    "budget-ms": "milliseconds from arrival to answer",
    "min-quality": "least share of full quality",
    "min-layers": "fewest layers",
    "layers": "exactly these layers",
    "exits": 'only these layers ("6,12"), or "shared"',
    "dim": "length of the vectors",
    "tier": "a lower tier than the key's",
    "input-type": "query or document",
    "task": "the task that quality is of",
    "space": "the vector space the answer must be in",
    "output-dtype": "type of the numbers: float, int8, uint8, binary or ubinary",
    "texts": "texts in the request (default: 1)",
    "tokens": "tokens of each text (default: 32)",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the address and what may be asked; an API key is read from STRATA_KEY."""
    parser.epilog = f"An API key is read from the environment variable {KEY}."
    parser.add_argument(
        "--url", type=server_or_socket, help=f"of the server, or unix:PATH of its --uds (default: {_URL})"
    )
    for name, text in _ASKS.items():
        parser.add_argument(f"--{name}", metavar="VALUE", help=text)
    sizing = parser.add_argument_group(
        "sizing", "How many replicas a load takes, from the latency profile of this machine; no server is asked."
    )
    sizing.add_argument("--size", action="store_true", help="say it, for texts of --tokens")
    sizing.add_argument("--model", metavar="NAME", help="a name from `strata models list` (default: the built-in one)")
    sizing.add_argument("--rate", type=positive, metavar="N", help=f"texts a second ({_RATE:g})")
    sizing.add_argument("--cores", type=count, metavar="N", help=f"of a replica ({_CORES})")
    sizing.add_argument("--busy", type=share, metavar="X", help=f"share of the time a core may work ({_BUSY})")
    parser.add_argument("--json", action="store_true", help="print the server's answer as it came")


def run(arguments: argparse.Namespace) -> int:
    """Print the plan; 1 when the server refuses or cannot be reached, with its reason, 2 for options that cannot be."""
    given = {name: value for name, value in vars(arguments).items() if value is not None}
    asks = {option: name for option in _ASKS if (name := option.replace("-", "_")) in given}
    if arguments.size:
        for option in [*["url"] * ("url" in given), *asks]:
            if option != "tokens":
                return _refused(f"--{option}: goes without --size, as no server is asked", _WRONG)
        return _size(arguments)
    for option in _SIZING & given.keys():
        return _refused(f"--{option}: goes with --size alone", _WRONG)
    query = urlencode({name: given[name] for name in asks.values()})
    try:
        plan = _plan(arguments.url or _URL, query)
    except NotAnsweredError as error:
        return _refused(str(error))
    if arguments.json:
        terminal.print_json(plan)
    else:
        _show(plan)
    return 0


def _plan(url: str, query: str) -> dict[str, Any]:
    answer = ask(url, f"/plan?{query}", _TIMEOUT_S)
    try:
        plan: dict[str, Any] = json.loads(answer)
    except ValueError as error:
        raise no_strata(url) from error
    if not (isinstance(plan, dict) and {"terms", "plan", "alternatives"} <= plan.keys()):
        raise no_strata(url)
    return plan


def _size(arguments: argparse.Namespace) -> int:
    from strata.app.planning import size

    tokens = arguments.tokens or "32"
    if not tokens.isdecimal() or int(tokens) < 1:
        return _refused(f"--tokens: must be a whole number, 1 or more. Given: {tokens}", _WRONG)
    rate, busy, cores = arguments.rate or _RATE, arguments.busy or _BUSY, arguments.cores or _CORES
    try:
        found = size.size(arguments.model, size.Demand(rate, int(tokens), busy, cores))
    except (LookupError, ValueError) as error:
        return _refused(str(error))
    if arguments.json:
        terminal.print_json(found)
    else:
        size.show(found)
    return 0


def _show(plan: dict[str, Any]) -> None:
    terms, chosen = plan["terms"], plan["plan"]
    deadline = "none" if terms["deadline_ms"] is None else f"{terms['deadline_ms']:g} ms"
    told_as = "" if terms["output_dtype"] == "float" else f" as {terms['output_dtype']}"
    rows = [
        (
            str(row["layers"]),
            _share(row["quality"]),
            f"{row['empty_ms']:.1f}",
            f"{row['queued_ms']:.1f}",
            row["ruled_out"] or ("<- now" if row["layers"] == chosen["layers"] else "allowed"),
        )
        for row in plan["alternatives"]
    ]
    terminal.show(
        terminal.facts(
            [
                ("asked", f"tier {terms['tier']}, deadline {deadline}, {plan['texts']} x {plan['tokens']} tokens"),
                (
                    "now",
                    f"{counted(chosen['layers'], 'layer')}, {chosen['dim']} dims{told_as}, "
                    f"quality {_share(chosen['quality'])}"
                    f"{' (' + chosen['task'] + ')' if chosen['task'] else ''}, "
                    f"predicted {chosen['predicted_ms']:.1f} ms",
                ),
                ("space", chosen["space"] or "several: each text has a depth of its own"),
            ]
        ),
        terminal.table(("layers>", "quality>", "empty ms>", "queued ms>", "verdict"), rows),
    )


def _share(quality: float | None) -> str:
    return "-" if quality is None else f"{quality:.3f}"


def _refused(message: str, status: int = 1) -> int:
    print(f"strata plan: {message}", file=sys.stderr)
    return status
