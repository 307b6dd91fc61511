"""The explorer's files, without a browser: what is served to whom, how much it is, and that it needs nobody else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
from httpx import Client

from tests.callers.test_keys import TIERS
from tests.conftest import RunningServer, ServerFactory

STATIC = Path(__file__).parents[2] / "app" / "ui" / "static"
FILES = [path for path in STATIC.rglob("*") if path.is_file()]


def test_each_file_is_served_and_asked_for_again_only_when_it_changed(client: Client) -> None:
    for path in FILES:
        name = path.relative_to(STATIC).as_posix()
        answer = client.get(f"/ui/{name}")
        assert answer.status_code == 200
        assert answer.content == path.read_bytes()
        again = client.get(f"/ui/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert client.get("/ui/nothing.js").status_code == 404
    assert client.get("/ui/%2e%2e/files.py").status_code == 404


def test_the_page_may_reach_this_server_alone(client: Client) -> None:
    page = client.get("/ui")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self';" in policy
    for path in re.findall(r'(?:src|href)="(/[^"#]*)"', page.text):
        assert client.get(path).status_code == 200, path
    named = {url for file in FILES for url in re.findall(r"https?://[\w./-]+", file.read_text(encoding="utf-8"))}
    assert named <= {"http://www.w3.org/2000/svg", "https://github.com/leeoniya/uPlot"}


def test_it_is_small(client: Client) -> None:
    assert sum(path.stat().st_size for path in FILES) < 1_500_000
    first = ["/ui", *re.findall(r'(?:src|href)="(/ui/[^"]*)"', client.get("/ui").text)]
    assert sum(len(client.get(path).content) for path in first) < 60_000


def test_a_vendored_library_has_its_licence_beside_it() -> None:
    vendored = {path.stem for path in (STATIC / "vendor").glob("*.js")}
    assert vendored
    for name in vendored:
        assert "MIT License" in (STATIC / "vendor" / f"{name}-LICENSE.txt").read_text(encoding="utf-8")


def test_every_judged_query_has_a_passage_that_answers_it() -> None:
    library = json.loads((STATIC / "data" / "library.json").read_text(encoding="utf-8"))
    known = {document["id"] for document in library["documents"]}
    assert len(known) == len(library["documents"]) >= 200
    assert len({document["text"] for document in library["documents"]}) == len(known)
    assert len(library["queries"]) >= 40
    for query in library["queries"]:
        assert query["relevant"].keys() <= known
        assert 2 in query["relevant"].values()


def test_the_root_leads_to_it(client: Client) -> None:
    assert client.get("/").json()["ui"] == "/ui"
    led = client.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (led.status_code, led.headers["location"]) == (307, "/ui"), "a browser"


def test_the_root_is_open_and_leads_to_what_is_on_its_port(
    start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path
) -> None:
    server = start_server(tiny_bundle, "--api-key", "k", "--operations-port", "0")
    operations = server.await_logged(r"operations url=(http://\S+)")[1]
    assert server.client.get("/").json().keys() == {"strata", "guide", "embed"}
    assert server.client.get("/", headers={"Accept": "text/html"}).status_code == 200
    assert httpx.get(operations).json().keys() == {"strata", "guide", "docs", "info", "ui"}
    led = httpx.get(operations, headers={"Accept": "text/html"}, follow_redirects=True)
    assert (led.status_code, led.url.path) == (200, "/ui")
    assert server.client.post("/", json={"inputs": "a"}).status_code == 401, "TEI's own path to embed needs a key"


def test_no_ui_serves_none_of_it(start_server: ServerFactory, tiny_bundle: Path) -> None:
    client = start_server(tiny_bundle, "--no-ui").client
    assert client.get("/ui").status_code == client.get("/ui/js/main.js").status_code == 404
    assert "ui" not in client.get("/", headers={"Accept": "text/html"}).json()


def test_the_page_is_open_and_what_it_asks_is_not(
    start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path
) -> None:
    tiers = tmp_path / "tiers.toml"
    tiers.write_text(TIERS)
    server: RunningServer = start_server(tiny_bundle, "--tiers", str(tiers), "--operations-port", "0")
    operations = server.await_logged(r"operations.*?(http://[\d.]+:\d+)")[1]
    assert server.client.get("/ui").status_code == server.client.get("/ui/js/main.js").status_code == 404
    page = httpx.get(operations + "/ui")
    assert f'data-api-port="{server.port}"' in page.text
    assert f"connect-src 'self' http://*:{server.port} " in page.headers["content-security-policy"]
    assert httpx.get(operations + "/ui/js/main.js").status_code == httpx.get(operations + "/now").status_code == 200
    assert server.client.get("/plan").status_code == 401
