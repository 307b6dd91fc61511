"""The guides' pages: which there are, and what they are as Markdown and as HTML."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from itertools import pairwise
from pathlib import Path

_HERE = Path(__file__).parent

# Part -> slug -> title, in the order of reading.
PARTS = {
    "Use": {
        "index": "Guide",
        "concepts": "Concepts",
        "choosing": "Choosing depth, tiers and size",
        "operating": "Operating",
        "models": "Bring your own model",
        "training": "Training",
    },
    "Reference": {
        "api": "API",
        "options": "Options",
        "metrics": "Metrics",
    },
    "How it is made": {
        "architecture": "Architecture",
        "schedule": "The schedule",
        "engine": "The engine",
        "contributing": "Contributing",
        "changes": "Changes",
    },
}
PAGES = {slug: title for part in PARTS.values() for slug, title in part.items()}

_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title} · Strata</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{root}guide/guide.css">
</head>
<body>
<nav aria-label="Pages"><a class="name" href="{root}">Strata</a>
{links}
</nav>
<main>
{body}
</main>
</body>
</html>
"""


def markdown(slug: str) -> str:
    """The source of a page that is a file. Raises KeyError where there is none of that name."""
    if slug not in PAGES:
        raise KeyError(slug)
    return (_HERE / f"{slug}.md").read_text(encoding="utf-8")


def file(name: str) -> bytes:
    """A picture or style sheet of the guides. Raises KeyError where there is none of that name."""
    path = _HERE / name
    if Path(name).name != name or path.suffix not in MEDIA or not path.is_file():
        raise KeyError(name)
    return path.read_bytes()


MEDIA = {".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8"}


_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|ms|MB|s|x)(?!\w))")  # a number and its unit stay in one line


@cache
def html(slug: str, text: str, root: str) -> str:
    """A page's Markdown as HTML; ``root`` is where the server's paths begin, with a slash at its end."""
    from markdown_it import MarkdownIt  # when a guide is first read: a server starts without it

    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(text)
    for opening, inline in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", anchor(inline.content))
        for child in inline.children or ():
            if child.type == "text":
                child.content = _BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", child.content)
            if child.type == "link_open":
                child.attrSet("href", _link(str(child.attrGet("href")), root))
            if child.type == "image":
                child.attrSet("src", f"{root}guide/{child.attrGet('src')}")
    body = parser.renderer.render(tokens, parser.options, {})
    # A wide table scrolls by itself, and can be reached by keyboard to do so.
    body = body.replace("<table>", '<div class="wide" tabindex="0"><table>').replace("</table>", "</table></div>")
    links = "\n".join(_part_links(part, pages, slug, root) for part, pages in PARTS.items())
    return _SHELL.format(title=escape(PAGES[slug]), root=root, links=links, body=body)


def _part_links(part: str, pages: dict[str, str], shown: str, root: str) -> str:
    """The links to the pages of one part, under its name."""
    links = [
        f'<li><a href="{root}guide/{slug}"{" aria-current=page" if slug == shown else ""}>{escape(title)}</a></li>'
        for slug, title in pages.items()
    ]
    return "\n".join([f"<p>{escape(part)}</p>", "<ul>", *links, "</ul>"])


def anchor(heading: str) -> str:
    """What a link to a heading ends in."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def _link(target: str, root: str) -> str:
    """Links between pages name their files, so that they work where the Markdown is read, too."""
    page, mark, place = target.partition("#")
    slug = page.removesuffix(".md")
    return f"{root}guide/{slug}{mark}{place}" if page.endswith(".md") and slug in PAGES else target
