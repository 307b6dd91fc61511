"""What is shown and kept of a run: progress lines, tables, a JSON file, a page with its pictures in it."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from strata.loadtest.figures import Figure
from strata.loadtest.page import page

STDOUT = Path("-")


class Report:
    """Progress on stderr while a command runs; its figures on stdout, and in a file, at the end."""

    def __init__(self, command: str, options: dict[str, Any]) -> None:
        self._command = command
        self._options = options
        self._began = time.time()
        self._load_at_start = os.getloadavg()[0]
        self.facts: dict[str, Any] = {}  # said once under the table, e.g. the settings chosen
        self.rounds: dict[str, Any] = {}  # the raw results, for the files only
        self.tables: dict[str, list[list[str]]] = {}  # by title; the first row is the head, as `terminal.table` has it
        self.wide_tables: dict[str, list[list[str]]] = {}  # likewise, for the page only
        self.pictures: dict[str, str] = {}  # SVG by title, for the page only

    def tell(self, message: str) -> None:
        """One line of progress."""
        print(f"[{time.time() - self._began:6.1f} s] {message}", file=sys.stderr, flush=True)

    def close(self, figures: Sequence[Figure], json_file: Path | None, html_file: Path | None = None) -> None:
        """Print tables, figures and facts, or with the file ``-`` JSON in their place; write the files asked for."""
        facts = {**self.facts, "load average before": round(self._load_at_start, 2)}
        content = {
            "command": self._command,
            "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._began)),
            "machine": machine(),
            "options": self._options,
            "facts": facts,
            "figures": [{**asdict(figure), "met": figure.met} for figure in figures],
            "rounds": self.rounds,
        }
        rows = [shown(figure) for figure in figures]
        if json_file == STDOUT:
            print(json.dumps(content, indent=2, default=str))
        elif importlib.util.find_spec("rich"):
            _show(self.tables, rows, facts)
        else:  # a machine lent for its GPU may have no more than an engine needs
            print("\n".join("\t".join(row) for row in rows))
        if json_file and json_file != STDOUT:
            json_file.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
        if html_file:
            tables = {**self.tables, **self.wide_tables}
            html_file.write_text(page(self._command, content, rows, tables, self.pictures), encoding="utf-8")


def _show(tables: dict[str, list[list[str]]], rows: Sequence[Sequence[str]], facts: dict[str, Any]) -> None:
    from strata import terminal

    for title, (names, *lines) in tables.items():
        terminal.show(terminal.head(title), terminal.table(names, lines))
    terminal.show(terminal.table(("figure", "value>", "bar>", ""), rows))
    terminal.show(terminal.facts([(name, str(fact)) for name, fact in facts.items()]))


def shown(figure: Figure) -> tuple[str, str, str, str]:
    """What, how much, the bar, and whether it is reached."""
    verdict = {None: "", True: "reached", False: "MISSED"}[figure.met]
    return figure.name, f"{_short(figure.value)} {figure.unit}".strip(), figure.bar, verdict


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
