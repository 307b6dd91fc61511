"""The guides: each page is served, links lead somewhere, and what is made of the code is complete."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path
from urllib.parse import urljoin

import pytest
from httpx import Client

from strata.app.api import refusals
from strata.app.api.header_docs import OF_ALL, OF_VECTORS
from strata.app.api.refusal_docs import WHEN
from strata.app.cli import COMMANDS, main
from strata.app.docs.pages import PAGES, html
from strata.app.settings import Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "app" / "docs"
MADE = {"api", "options", "metrics"}  # of the code, when they are read


@pytest.mark.parametrize("slug", PAGES)
def test_each_page_is_served_as_html_and_as_markdown(client: Client, slug: str) -> None:
    source = client.get(f"/guide/{slug}.md")
    assert source.status_code == 200
    assert source.headers["content-type"].startswith("text/markdown")
    assert source.text.startswith("# ")
    page = client.get(f"/guide/{slug}")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    assert "<h1" in page.text
    for target in re.findall(r'(?:href|src|srcset)="([^":#]+)[#"]', page.text):
        assert client.get(urljoin("/guide/", target)).status_code == 200, target


def test_links_between_the_files_lead_somewhere() -> None:
    for file in DOCS.glob("*.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", file.read_text(encoding="utf-8")):
            slug = target.removesuffix(".md")
            assert slug in MADE or (DOCS / target).exists(), f"{file.name}: {target}"


@pytest.mark.parametrize("file", ["README.md", *sorted(path.name for path in DOCS.glob("*.md"))])
def test_files_of_the_code_that_are_named_are_there(file: str) -> None:
    text = (ROOT / file if file == "README.md" else DOCS / file).read_text(encoding="utf-8")
    for path in re.findall(r"`((?:app|model_store|loadtest|docker|tests)(?:/[\w.-]+)+)`", text):
        assert (ROOT / path).exists(), path


def test_every_file_beside_the_rooms_of_the_app_is_in_the_architecture() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+\.py)`", text[text.index("## The files of `app`") :])
    assert sorted(named) == sorted(path.name for path in (ROOT / "app").glob("*.py") if path.name != "__init__.py")


def test_every_file_is_in_the_list_of_pages() -> None:
    assert {file.stem for file in DOCS.glob("*.md")} == set(PAGES) - MADE


def test_every_option_is_on_its_page(client: Client) -> None:
    page = client.get("/guide/options.md").text
    for name in Settings.model_fields:
        assert f"`--{name.replace('_', '-')}`" in page
    assert "``" not in page, "a default that is nothing"


def test_every_series_is_on_its_page(client: Client) -> None:
    client.post("/embed", json={"inputs": "something to count"})
    page = client.get("/guide/metrics.md").text
    served = re.findall(r"(?m)^# TYPE ((?:te|strata)_\w+) ", client.get("/metrics").text)
    assert len(served) > 30
    for name in served:
        assert f"`{name}`" in page or f"`{re.sub('_(total|info)$', '', name)}`" in page, name


def test_every_route_is_on_its_page(client: Client) -> None:
    page = client.get("/guide/api.md").text
    schema = client.get("/openapi.json").json()
    assert schema["paths"]
    for path, methods in schema["paths"].items():
        for method in methods:
            same = "The same answers at `" + f"{method.upper()} {path}" + "`"
            assert f"## {method.upper()} {path}\n" in page or same in page
            body = methods[method].get("requestBody", {}).get("content", {}).get("application/json", {})
            for name, field in body.get("schema", {}).get("properties", {}).items():
                assert field.get("description"), f"{path}: {name}"
    for hidden in ("POST /", "POST /embeddings", "GET /v1/models/{name}"):
        assert hidden in page
    assert page.count("| `budget_ms` |") == 1, "options are told once"
    assert "null" not in re.sub(r" or null", "", page)


def test_every_header_of_an_answer_and_every_refusal_is_on_the_page_of_the_api() -> None:
    told = {name.lower() for name in OF_VECTORS | OF_ALL}
    for file in ("responses", "output", "gateway"):
        source = (ROOT / "app" / "api" / f"{file}.py").read_text(encoding="utf-8")
        assert set(re.findall(r'\(\s*b"((?:x|server)-[a-z0-9-]+)",', source)) <= told, file
    assert set(WHEN) == {kind for kind in vars(refusals).values() if isinstance(kind, refusals.Kind)}


def test_an_unknown_page_names_those_there_are(client: Client) -> None:
    answer = client.get("/guide/nowhere")
    assert answer.status_code == 404
    assert "concepts" in answer.text
    assert client.get("/guide/..%2fpages.py").status_code == 404


def commands() -> list[str]:
    """The lines of README and guides that call `strata`, one after another."""
    blocks = [
        block
        for file in (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
        for block in re.findall(r"(?ms)^```sh\n(.*?)^```", file.read_text(encoding="utf-8"))
    ]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    called = [part.strip() for line in lines for part in line.split("&&")]
    return [part for part in called if part.startswith("strata ")]


@pytest.mark.parametrize("line", sorted(set(commands())))
def test_each_command_of_the_guides_is_one_that_strata_takes(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the running of it: the name, its options and their values."""
    words = shlex.split(line, comments=True)[1:]
    module = importlib.import_module(COMMANDS[words[0]][0])
    taken: list[argparse.Namespace] = []
    monkeypatch.setattr(module, "run", taken.append)
    assert main(words) == 0
    assert len(taken) == 1


def test_a_number_and_its_unit_stay_in_one_line_of_a_page() -> None:
    text = "took 50 ms, 3 % of 2 x\n\n```sh\nwait 50 ms\n```\n"
    page = html("index", text, "/")
    assert "took 50\u00a0ms, 3\u00a0% of 2\u00a0x" in page
    assert "wait 50 ms" in page, "what is copied is left as it is"
