"""A report as one HTML file: figures, pictures and raw results in it, nothing fetched, in light and dark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --ink: #1d2125; --soft: #60686f; --line: #d9dde1; --accent: #0b6e99;
  --good: #00714f; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ground: #15181b; --ink: #e6e8ea; --soft: #9aa3ab; --line: #343a40;
  --accent: #5cb8e4; --good: #4cc79a; --bad: #ff8a80; } }
body { background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; margin: 0 auto;
  max-width: 72rem; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; }
p, dd { overflow-wrap: anywhere; } td, th { white-space: nowrap; } .soft, dt { color: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .9rem .3rem 0; text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; } .number { text-align: right; }
.reached { color: var(--good); } .missed { color: var(--bad); font-weight: 700; }
dl { display: grid; gap: .2rem 1rem; grid-template-columns: minmax(9rem, max-content) 1fr; margin: 0; }
dd { margin: 0; }
figure { margin: 0; overflow-x: auto; } figure svg { display: block; height: auto; max-width: 100%; min-width: 56rem; }
pre { font-size: .8rem; overflow-x: auto; white-space: pre; } summary { color: var(--accent); cursor: pointer; }
"""


def page(
    command: str,
    content: Mapping[str, Any],
    figures: Sequence[tuple[str, str, str, str]],
    tables: Mapping[str, Sequence[Sequence[str]]],
    pictures: Mapping[str, str],
) -> str:
    """The HTML. ``figures``: name, value, bar and verdict; ``tables``: rows by title, the first its head; ``pictures``:
    SVG by title. ``content`` is the JSON report, of which facts, machine and options are shown, and all is kept.
    """
    parts = [
        _figures(figures),
        *(f"<h2>{escape(title)}</h2>{_table(rows)}" for title, rows in tables.items()),
        *(f'<h2>{escape(title)}</h2><figure tabindex="0">{svg}</figure>' for title, svg in pictures.items()),
        "<h2>What was measured, on what</h2>",
        _list({**content["facts"], **content["machine"]}),
        "<details><summary>Options</summary>" + _list(content["options"]) + "</details>",
        "<details><summary>Raw results (JSON)</summary><pre>"
        + escape(json.dumps(content, indent=1, default=str))
        + "</pre></details>",
    ]
    title = f"strata loadtest {command}"
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f'<h1>{escape(title)}</h1>\n<p class="soft">{escape(str(content["began"]))}, '
        f"{escape(str(content['machine']['cpu']))}, {escape(str(content['machine']['cores']))} cores</p>\n"
        + "\n".join(parts)
        + "\n</html>\n"
    )


def _figures(figures: Sequence[tuple[str, str, str, str]]) -> str:
    rows = [
        f'<tr><td>{escape(name)}</td><td class="number">{escape(value)}</td><td class="number">{escape(bar)}</td>'
        f'<td class="{verdict.lower()}">{escape(verdict)}</td></tr>'
        for name, value, bar, verdict in figures
    ]
    head = '<tr><th>Figure</th><th class="number">Value</th><th class="number">Bar</th><th></th></tr>'
    return f'<h2>Figures</h2><div class="wide"><table>{head}{"".join(rows)}</table></div>'


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    numbers = [' class="number"' if _is_number(cell) else "" for cell in (body or [head])[0]]
    cells = "".join(f"<th{kind}>{escape(cell.rstrip('>'))}</th>" for cell, kind in zip(head, numbers, strict=True))
    lines = ("".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row, numbers, strict=True)) for row in body)
    return f'<div class="wide"><table><tr>{cells}</tr>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'


def _is_number(cell: str) -> bool:
    try:
        float(cell.rstrip("%"))
    except ValueError:
        return False
    return True


def _list(facts: Mapping[str, Any]) -> str:
    return "<dl>" + "".join(f"<dt>{escape(str(n))}</dt><dd>{escape(str(f))}</dd>" for n, f in facts.items()) + "</dl>"
