"""What is shown and kept of a run: progress lines, a table of figures, a JSON file."""

from __future__ import annotations

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


class Report:
    """Progress on stderr while a command runs; its figures on stdout, and in a file, at the end."""

    def __init__(self, command: str, options: dict[str, Any]) -> None:
        self._command = command
        self._options = options
        self._began = time.time()
        self._load_at_start = os.getloadavg()[0]
        self.facts: dict[str, Any] = {}  # said once under the table, e.g. the settings chosen
        self.rounds: dict[str, Any] = {}  # the raw results, for the file only

    def tell(self, message: str) -> None:
        """One line of progress."""
        print(f"[{time.time() - self._began:6.1f} s] {message}", file=sys.stderr, flush=True)

    def close(self, figures: Sequence[Figure], file: Path | None) -> None:
        """Print the table, and write the file if one is asked for."""
        print(table(figures))
        facts = {**self.facts, "load average before": round(self._load_at_start, 2)}
        for name, fact in facts.items():
            print(f"  {name}: {fact}")
        if file:
            content = {
                "command": self._command,
                "began": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._began)),
                "machine": machine(),
                "options": self._options,
                "facts": facts,
                "figures": [{**asdict(figure), "met": figure.met} for figure in figures],
                "rounds": self.rounds,
            }
            file.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")


def table(figures: Sequence[Figure]) -> str:
    """The figures in columns: what, how much, the bar, and whether it is reached."""
    verdict = {None: "", True: "reached", False: "MISSED"}
    rows = [(f.name, f"{_short(f.value)} {f.unit}".strip(), f.bar, verdict[f.met]) for f in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{name:<{widths[0]}}  {value:>{widths[1]}}  {bar:<{widths[2]}}  {met}".rstrip()
        for name, value, bar, met in rows
    )


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
