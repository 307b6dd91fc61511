"""`/docs` in a browser: from the package alone, with keys, and from the operations port."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, Route, sync_playwright

from tests.callers.test_keys import GOLD, TIERS
from tests.conftest import RunningServer, ServerFactory


@pytest.fixture(scope="module")
def guarded(
    start_session_server: ServerFactory, tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory
) -> RunningServer:
    """Keys, and a port of its own for operations."""
    tiers = tmp_path_factory.mktemp("guarded") / "tiers.toml"
    tiers.write_text(TIERS)
    return start_session_server(tiny_bundle, "--tiers", str(tiers), "--operations-port", "0")


@pytest.fixture(scope="module")
def behind(start_session_server: ServerFactory, tiny_bundle: Path) -> RunningServer:
    """Under a path."""
    return start_session_server(tiny_bundle, "--root-path", "/strata/")


def test_the_page_names_no_other_host_and_has_all_it_names(client: httpx.Client) -> None:
    page = client.get("/docs").text
    assert re.findall(r"https?://[^\s\"']+", page) == []
    for place in re.findall(r'(?:src|href)="(/[^"]+)"', page):
        found = client.get(place)
        assert found.status_code == 200
        assert len(found.content) > 100_000
    assert client.get("/openapi.json").json()["servers"] == [{"url": "/"}]


def test_a_request_is_tried_with_a_key_from_the_operations_port(guarded: RunningServer) -> None:
    operations = guarded.await_logged(r"operations url=(http://\S+)")[1]
    hosts = (operations, guarded.url)
    elsewhere: list[str] = []

    def guard(route: Route) -> None:
        if route.request.url.startswith((*hosts, "data:")):
            route.continue_()
        else:
            elsewhere.append(route.request.url)
            route.abort()

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page()
        page.route("**/*", guard)
        page.goto(operations + "/docs")
        page.get_by_role("button", name="Authorize").click()
        page.locator(".auth-container input").fill(GOLD)
        page.locator(".auth-btn-wrapper button[type=submit]").click()
        page.locator(".btn-done").click()
        status, body = tried(page)
        browser.close()
    assert elsewhere == []
    assert status == 200
    assert body.startswith("[[")


def tried(page: Page) -> tuple[int, str]:
    """Status and body of `POST /embed` as the page sends it."""
    operation = page.locator("#operations-text-embeddings-inference-embed_texts_embed_post")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    with page.expect_response(lambda response: response.request.method == "POST") as found:
        operation.get_by_role("button", name="Execute").click()
    return found.value.status, found.value.text()


def test_pages_of_other_hosts_may_not_call_it(guarded: RunningServer) -> None:
    operations = guarded.await_logged(r"operations url=http://\S+:(\d+)")[1]
    for origin, allowed in (
        (f"http://127.0.0.1:{operations}", True),
        (f"http://evil.example:{operations}", False),
        ("http://127.0.0.1:1", False),
    ):
        asked = guarded.client.options("/embed", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        assert ("access-control-allow-origin" in asked.headers) is allowed


def test_origins_that_are_named_may_call_it_with_a_key(start_server: ServerFactory, tiny_bundle: Path) -> None:
    origins = "https://a.example, https://b.example/"
    client = start_server(tiny_bundle, "--cors-origin", origins, "--api-key", "k").client
    headers = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, x-strata-layers",
    }
    for origin, allowed in (("https://a.example", True), ("https://b.example", True), ("https://c.example", False)):
        before = client.options("/embed", headers={"Origin": origin, **headers})
        assert (before.status_code == 200) is allowed
        answer = client.post("/embed", json={"inputs": "a"}, headers={"Origin": origin, "Authorization": "Bearer k"})
        assert answer.status_code == 200
        assert (answer.headers.get("access-control-allow-origin") == origin) is allowed
        assert "X-Strata-Layers" in answer.headers["access-control-expose-headers"]
    assert client.post("/embed", json={"inputs": "a"}, headers={"Origin": "https://a.example"}).status_code == 401


@pytest.mark.parametrize("prefix", ["/strata", ""])
def test_a_root_path_is_served_with_and_without_being_taken_off(behind: RunningServer, prefix: str) -> None:
    assert "Warning" not in behind.text()
    client = behind.client
    assert client.post(f"{prefix}/embed", json={"inputs": "a"}).status_code == 200
    assert client.get(f"{prefix}/v1/models/tiny").status_code == 200
    assert client.get(f"{prefix}/health").status_code == 200
    page = client.get(f"{prefix}/docs").text
    assert 'src="/strata/docs/swagger-ui-bundle.js"' in page
    assert client.get(f"{prefix}/openapi.json").json()["servers"] == [{"url": "/strata"}]
    assert client.get("/strataembed").status_code == 404


def test_one_key_is_all_it_takes(start_server: ServerFactory, tiny_bundle: Path) -> None:
    server = start_server(tiny_bundle, env={"STRATA_API_KEY": "sk-one"})
    client = server.client
    for given, status in ((None, 401), ("Bearer", 401), ("Bearer sk-two", 401), ("bearer  sk-one", 200)):
        headers = {"Authorization": given} if given else {}
        assert client.post("/embed", json={"inputs": "a"}, headers=headers).status_code == status
    assert "sk-one" not in server.text()
    assert "sk-two" not in server.text()
    used = client.get("/metrics", headers={"Authorization": "Bearer sk-one"}).text
    assert re.search(r'strata_key_texts_total\{key="[0-9a-f]{8}",tier="default"\} 1\.0', used)
    server.await_logged(r"status=401 .*client=127\.0\.0\.1")
