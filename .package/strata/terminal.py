"""What commands print: tables that read well at 80 columns and without colour, and progress with the time left."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

Cell = str | Text


def console(*, stderr: bool = False) -> Console:
    """Where to print. Colour only on a terminal, and not with NO_COLOR; 80 columns where there is no terminal."""
    return Console(stderr=stderr, highlight=False, emoji=False, markup=False)


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]], *, title: str = "") -> Table:
    """A table with a rule under its head. A column whose name ends in ">" is of numbers, and set to the right."""
    made = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title=title or None,
        title_justify="left",
        title_style="bold",
    )
    for name in columns:
        right = name.endswith(">")
        made.add_column(
            name.rstrip(">"),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
            min_width=len(name) - right,
        )
    for row in rows:
        made.add_row(*row)
    return made


def facts(rows: Sequence[tuple[str, Cell]]) -> Table:
    """Names and what is known of each, a line each; long ones go on below themselves."""
    made = Table(box=None, show_header=False, pad_edge=False)
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, fact in rows:
        made.add_row(name, fact)
    return made


def print_json(value: object) -> None:
    """The same as data; ASCII, so that any locale can take it."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")


def print_json_line(value: object) -> None:
    """Likewise in one line, at once: for whoever reads along."""
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()


@contextmanager
def progress(label: str, total: float, columns: Sequence[ProgressColumn] = ()) -> Iterator[Callable[[float], None]]:
    """A bar on stderr with the time left, gone when it ends; nothing where stderr is no terminal.

    Gives out a function that takes how much more of ``total`` is done.
    """
    shown = console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        *columns,
        TimeRemainingColumn(),
        console=shown,
        transient=True,
        disable=not shown.is_terminal,
    )
    with bar:
        task = bar.add_task(label, total=total)
        yield lambda done: bar.advance(task, done)
