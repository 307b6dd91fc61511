"""Tables of shares in prose: what the README and the card print must be what the manifest says."""

from __future__ import annotations

import re

_COLUMNS = ("similarity", "search", "queries on full-depth documents")


def shares_told(text: str) -> dict[int, dict[str, float]]:
    """Percentages by layers and column of every table `| layers | ... |` with a column of shares.

    A row that comes twice must say the same both times.
    """
    found: dict[int, dict[str, float]] = {}
    names: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            names = []
        elif cells[0] == "layers":
            names = cells
        elif names and cells[0].isdigit():
            for name, cell in zip(names, cells, strict=True):
                if name in _COLUMNS and (number := re.match(r"[\d.]+", cell)):
                    row = found.setdefault(int(cells[0]), {})
                    assert row.setdefault(name, float(number[0])) == float(number[0]), f"{cells[0]} layers, {name}"
    return found
