"""`strata top`: a running server, live in the terminal."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

from strata import terminal
from strata.app.client import KEY, NotAnsweredError, ask, no_strata
from strata.app.top.reading import Sample, Window
from strata.app.top.screen import screen
from strata.app.top.state import state
from strata.arguments import server_or_socket

_TIMEOUT_S = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the address, how often to look, and how to print."""
    parser.description = "Show a running server, live: load, latency, depth, tiers, workers. Ctrl-C ends it."
    parser.epilog = f"An API key is read from the environment variable {KEY}."
    parser.add_argument(
        "--url",
        type=server_or_socket,
        default="http://127.0.0.1:8080",
        help="of the server, or of its operations port, or unix:PATH of its --uds (default: %(default)s)",
    )
    parser.add_argument("--every", type=_seconds, default=2.0, metavar="SECONDS", help="between looks (default: 2)")
    parser.add_argument("--once", action="store_true", help="look for one such time, print it and end")
    parser.add_argument("--json", action="store_true", help="print each look as a line of JSON")


def run(arguments: argparse.Namespace) -> int:
    """Look until told to stop; 1 when the server cannot be asked."""
    try:
        if arguments.json or arguments.once:
            for window in _windows(arguments.url, arguments.every):
                _print(arguments, window)
                if arguments.once:
                    break
        else:
            _live(arguments.url, arguments.every)
    except NotAnsweredError as error:
        print(f"strata top: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass  # the usual end
    return 0


def _live(url: str, every: float) -> None:
    from rich.live import Live

    console = terminal.console()
    before = _scrape(url)
    with Live(f"looking at {url} ...", console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while True:
            time.sleep(every)
            try:
                now = _scrape(url)
            except NotAnsweredError as error:  # it may come back, as in a restart
                live.update(f"{error}; trying again", refresh=True)
                continue
            live.update(screen(url, state(Window(before, now))), refresh=True)
            before = now


def _print(arguments: argparse.Namespace, window: Window) -> None:
    if arguments.json:
        terminal.print_json_line({"url": arguments.url, **state(window)})
    else:
        terminal.console().print(screen(arguments.url, state(window)))


def _windows(url: str, every: float) -> Iterator[Window]:
    """What happens between looks, without end."""
    before = _scrape(url)
    while True:
        time.sleep(every)
        now = _scrape(url)
        yield Window(before, now)
        before = now


def _scrape(url: str) -> Sample:
    """Raises NotAnsweredError."""
    text = ask(url, "/metrics", _TIMEOUT_S)
    try:
        sample = Sample.parse(time.monotonic(), text)
    except ValueError as error:
        raise no_strata(url) from error
    if not any(name.startswith("strata_") for name in sample.values):
        raise no_strata(url)
    return sample


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"must be a number from 0.1 to 3600. Given: {text}")
    return value
