"""What commands print: tables that read well at 80 columns and without colour, and progress with the time left."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

__all__ = [
    "Cell",
    "Text",
    "console",
    "facts",
    "head",
    "one_line",
    "print_json",
    "print_json_line",
    "progress",
    "show",
    "table",
]

Cell = str | Text

_NARROWEST, _USUAL = 10, 80  # columns


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the command's end decide: rich's own would end it as a fault."""
        raise BrokenPipeError


def console(*, stderr: bool = False) -> Console:
    """Where to print. Colour only on a terminal, and not with NO_COLOR; 80 columns where there is no terminal."""
    told = os.environ.get("COLUMNS", "")
    none = told.isdecimal() and int(told) < _NARROWEST  # 0, from terminals that do not know: rich would print nothing
    return _Console(stderr=stderr, highlight=False, emoji=False, markup=False, width=_USUAL if none else None)


def one_line(text: object) -> str:
    """What a file or folder may be called, with what is no printable character escaped: it neither breaks the line nor
    commands the terminal."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(text))


def show(*parts: Cell | Table) -> None:
    """Print tables, sentences over as many lines as they take, and `Text` with its lines as they are.

    Nothing breaks a path that may be copied.
    """
    shown = console()
    for part in parts:
        shown.print(_filled(part) if isinstance(part, str) else part, soft_wrap=not isinstance(part, Table))


def head(title: str) -> Text:
    """What stands over a table."""
    return Text(f"\n{_filled(title)}", "bold")


def _filled(text: str) -> str:
    return textwrap.fill(text, console().width, break_long_words=False, break_on_hyphens=False)


def table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    """A table with a rule under its head. A column whose name ends in ">" is of numbers, and set to the right."""
    made = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
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


def facts(rows: Sequence[tuple[str, Cell]], *, indent: int = 0) -> Text:
    """Names and what is known of each, a line each; long ones go on below themselves."""
    start = indent + max(len(name) for name, _ in rows) + 2
    width = console().width - start
    made = Text()
    for name, fact in rows:
        made.append("\n" if made else "").append(f"{'':{indent}}{name:<{start - indent}}", "dim")
        style, told = (fact.style, fact.plain) if isinstance(fact, Text) else (None, fact)
        lines = textwrap.wrap(one_line(told), max(width, 20), break_long_words=False, break_on_hyphens=False)
        if len(lines) <= 1 and told.isprintable() and isinstance(fact, Text):
            made.append_text(fact)
        else:
            made.append(f"\n{'':{start}}".join(lines), style)
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
