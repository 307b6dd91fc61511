"""Try, in a browser: what it shows is what the server answered, whatever is moved."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.callers.test_keys import GOLD, TIERS
from tests.conftest import RunningServer, ServerFactory
from tests.endure.conftest import series, until
from tests.ui.conftest import Opener

TEXTS = ["a river in the mountains", "a stream among hills", "bread and butter"]


def test_the_maps_show_the_cosines_of_the_answers(opened: Opener, server: RunningServer) -> None:
    with opened(server, f"#/try?layers=2&dim=16&texts={'%0A'.join(TEXTS)}") as seen:
        maps = seen.page.locator(".map table")
        expect(maps).to_have_count(3)
        expect(maps.nth(1).locator("caption")).to_have_text("similarity at 2 layers")
        for layers, table in ((4, maps.nth(0)), (2, maps.nth(1))):
            answer = server.client.post("/embed", json={"inputs": TEXTS, "layers": layers, "dim": 16})
            vectors = np.array(answer.json())
            for i, j in ((0, 1), (0, 2), (1, 2)):
                shown = float(table.locator("tbody tr").nth(i).locator("td").nth(j).inner_text())
                assert shown == pytest.approx(vectors[i] @ vectors[j], abs=0.0051)
        expect(seen.page.locator(".times .small")).to_contain_text("3 texts")
        expect(seen.page.locator(".figures")).to_contain_text("time, measured")
        expect(seen.page.locator(".figures + p")).to_have_text(
            "Kept: the share of the score of tiny at full depth on test sets of similarity."
        )


def test_what_moved_is_the_difference_of_the_numbers_shown(opened: Opener, server: RunningServer) -> None:
    with opened(server, "#/try?layers=2&dim=16") as seen:
        cells = seen.page.locator(".map tbody")
        expect(cells).to_have_count(3)
        full, chosen, moved = (
            [float(text.replace("\u2212", "-")) for text in cells.nth(i).locator("td:not(.same)").all_inner_texts()]
            for i in range(3)
        )
        assert moved == pytest.approx([b - a for a, b in zip(full, chosen, strict=True)], abs=1e-6)
        before, after = re.findall(r"-?\d?\.\d\d", seen.page.get_by_role("status").last.inner_text())
        assert abs(float(after) - float(before)) == pytest.approx(max(map(abs, moved)), abs=1e-6)


def test_arrows_move_depth_and_dim_and_the_address_follows(opened: Opener, server: RunningServer) -> None:
    with opened(server, "#/try?layers=2&dim=16") as seen:
        page = seen.page
        expect(page.locator(".map table")).to_have_count(3)
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("slider", name="depth")).to_have_attribute("aria-valuetext", "4 layers")
        expect(page.locator(".stack .run")).to_have_count(4)
        page.keyboard.press("Shift+ArrowLeft")
        expect(page.get_by_role("slider", name="dim")).to_have_attribute("aria-valuetext", "8 numbers")
        expect(page.locator(".map caption").nth(1)).to_have_text("similarity at 4 layers")
        assert "layers=4&dim=8" in page.url
        assert seen.bodies()[-1]["layers"] == 4
        page.keyboard.press("/")
        expect(page.locator("textarea")).to_be_focused()
        page.keyboard.press("ArrowRight")  # in the text, and of no other meaning there
        expect(page.locator(".stack .run")).to_have_count(4)
        page.reload()
        expect(page.locator(".stack .run")).to_have_count(4)
        expect(page.locator(".sliders output").nth(1)).to_have_text("8")


def test_the_code_is_the_request(opened: Opener, server: RunningServer) -> None:
    with opened(server, "#/try?layers=2&dim=16&role=query") as seen:
        page = seen.page
        expect(page.locator(".map table")).to_have_count(3)
        code = page.locator(".snippets pre")
        expect(code).to_contain_text(f"curl {server.url}/embed")
        body = json.loads(code.inner_text().split("-d '")[1].rstrip("'"))
        assert len(body["inputs"]) == len(page.locator("textarea").input_value().splitlines())
        assert (body["dim"], body["layers"], body["input_type"]) == (16, 2, "query")
        page.get_by_role("tab", name="curl").press("ArrowRight")
        expect(code).to_contain_text('extra_body={"layers": 2, "input_type": "query"}')
        page.get_by_role("tab", name="OpenAI SDK").press("ArrowRight")
        expect(code).to_contain_text("/embed?dim=16&layers=2&input_type=query")
        page.get_by_role("button", name="Copy").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == code.inner_text()


def test_a_budget_lets_the_server_choose(opened: Opener, server: RunningServer) -> None:
    with opened(server, "#/try?layers=1") as seen:
        page = seen.page
        page.get_by_label("or budget").select_option("1000")
        expect(page.locator(".times .small")).to_contain_text("left of the deadline")
        expect(page.locator(".stack .run")).to_have_count(4)  # an idle server runs all of them
        assert seen.bodies()[-1]["budget_ms"] == 1000
        assert "budget=1000" in page.url
        page.get_by_role("slider", name="depth").press("ArrowLeft")
        expect(page.get_by_label("or budget")).to_have_value("")
        expect(page.locator(".map caption").nth(1)).to_have_text("similarity at 2 layers")


def test_no_text_and_a_wrong_one_are_told(opened: Opener, server: RunningServer) -> None:
    with opened(server, "#/try?tier=nothing", expected="422") as seen:
        page = seen.page
        page.locator("textarea").fill("")
        expect(page.locator(".maps")).to_contain_text("Write two texts or more")
        page.locator("textarea").fill("one\ntwo")
        expect(page.locator(".map table").first.locator("tbody tr")).to_have_count(2)
        page.locator("textarea").fill("river " * 300 + "\ntwo")
        expect(page.locator(".times .small")).to_contain_text("1 text cut: longer than the model reads")
        page.route("**/embed", lambda route: route.fulfill(status=422, json={"error": "`dim` must be less"}))
        page.get_by_role("slider", name="dim").press("ArrowLeft")
        expect(page.get_by_role("alert")).to_contain_text("dim must be less")
        expect(page.get_by_role("alert").locator("code")).to_have_text("dim")


def test_a_key_is_asked_for_and_kept_for_the_tab(
    opened: Opener, start_server: ServerFactory, tiny_bundle: Path, tmp_path: Path
) -> None:
    tiers = tmp_path / "tiers.toml"
    tiers.write_text(TIERS)
    server = start_server(tiny_bundle, "--tiers", str(tiers))
    with opened(server, "#/try", expected="401") as seen:
        page = seen.page
        expect(page.get_by_role("alert")).to_contain_text("A key is needed")
        page.get_by_label("Key").fill(f"\u201c{GOLD}\u201d")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("the character \u201c (U+201C)")
        page.evaluate("sessionStorage.setItem('strata.key', '\u201c')")
        page.reload()
        expect(page.get_by_role("alert")).to_contain_text("A key is needed")
        page.get_by_label("Key").fill("sk-wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("not known")
        page.get_by_label("Key").fill(GOLD)
        page.get_by_role("button", name="Use this key").click()
        expect(page.locator(".map table")).to_have_count(3)
        expect(page.locator(".times .small")).to_contain_text("tier gold")
        expect(page.locator(".snippets pre")).to_contain_text("$STRATA_KEY")
        assert GOLD not in page.locator("body").inner_text()
        assert page.evaluate("JSON.stringify(localStorage)").find(GOLD) < 0
        page.reload()
        expect(page.locator(".map table")).to_have_count(3)


def test_operations_on_a_port_of_their_own_have_it_and_embed_at_the_other(
    opened: Opener, start_server: ServerFactory, tiny_bundle: Path
) -> None:
    server = start_server(tiny_bundle, "--operations-port", "0")
    operations = server.await_logged(r"operations.*?(http://[\d.]+:\d+)")[1]
    with opened(operations, "#/try") as seen:
        expect(seen.page.locator(".map table")).to_have_count(3)
        expect(seen.page.locator(".snippets pre")).to_contain_text(f"curl {server.url}/embed")
        assert all(request.url.startswith(server.url) for request in seen.asked("/embed"))


def test_a_refusal_says_when_it_is_asked_again_and_is(
    opened: Opener, start_server: ServerFactory, tiny_bundle: Path
) -> None:
    server = start_server(tiny_bundle, "--max-concurrent-requests", "1")
    with opened(server, "#/try?layers=1", expected="429") as seen:
        page = seen.page
        expect(page.locator(".map table")).to_have_count(3)
        with ThreadPoolExecutor(1) as elsewhere:
            with server.engine_held():
                first = elsewhere.submit(server.client.post, "/embed", json={"inputs": "a text that waits"})
                until(lambda: series(server, "strata_requests_in_progress") == 1, 20)
                page.keyboard.press("ArrowRight")
                expect(page.get_by_role("alert")).to_contain_text("Too much at once")
                expect(page.get_by_role("alert")).to_contain_text("Asked again in 1 second.")
            assert first.result().status_code == 200
        expect(page.get_by_role("alert")).to_have_count(0)
        expect(page.locator(".map caption").nth(1)).to_have_text("similarity at 2 layers")


def test_a_deadline_that_passes_says_what_would_fit(
    opened: Opener, start_server: ServerFactory, tiny_bundle: Path
) -> None:
    server = start_server(tiny_bundle)
    # Documents run every layer, whatever is queued, unless a depth is named.
    with opened(server, "#/try?layers=1&role=document", expected="503|504") as seen:
        page = seen.page
        expect(page.locator(".map table")).to_have_count(3)
        with ThreadPoolExecutor(1) as elsewhere, server.engine_held():
            elsewhere.submit(server.client.post, "/embed", json={"inputs": "what the engine is held with"})
            until(lambda: series(server, "strata_requests_in_progress") == 1, 20)
            page.get_by_label("or budget").select_option("1000")  # ample, once the engine is let go
            told = page.get_by_role("alert")
            expect(told).to_contain_text(
                re.compile("What would fit now: 4 layers|Nothing fits in 1000 ms now: .* 4 layers")
            )
            expect(told.get_by_role("heading")).to_have_text(
                re.compile("^(No answer by the deadline|Refused at once, rather than answered late)$")
            )
        server.await_ready()  # held for so long, the engine may have been replaced
        page.get_by_role("button", name="Ask again").click()
        expect(page.get_by_role("alert")).to_have_count(0)


def test_a_model_that_loads_is_told_and_awaited(opened: Opener, server: RunningServer) -> None:
    loading = {**server.client.get("/info").json(), "state": "loading", "engine": {}}
    with opened(server, "#/model") as seen:
        page = seen.page
        page.route("**/info", lambda route: route.fulfill(json=loading))
        page.reload()
        expect(page.locator("#state")).to_have_text("loading")
        expect(page.locator("main")).to_contain_text("The model is loading.")
        loading["engine"] = server.client.get("/info").json()["engine"]  # known, and not ready yet
        expect(page.locator("#state")).to_have_text(re.compile("^loading .* 1 worker$"))
        page.unroute("**/info")
        expect(page.locator("#state")).to_have_text(re.compile("^ready .* 1 worker$"))
        expect(page.locator(".facts")).to_be_visible()


def test_a_server_that_is_gone_is_told_and_what_answers_then(
    opened: Opener, start_server: ServerFactory, tiny_bundle: Path, searching: Path
) -> None:
    server = start_server(tiny_bundle)
    with opened(server, "#/try?layers=1", expected="ERR_CONNECTION_REFUSED|503") as seen:
        page = seen.page
        state = page.locator("#state")
        expect(page.locator(".map table")).to_have_count(3)
        expect(state).to_have_text(re.compile("^ready .* 1 worker$"))
        server.stop()
        page.keyboard.press("ArrowRight")
        expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
        expect(state).to_have_text("no answer")
        second = start_server(tiny_bundle, "--port", str(server.port), "--workers", "2")
        expect(page.locator(".map caption").nth(1)).to_have_text("similarity at 2 layers")
        expect(state).to_have_text(re.compile("^ready .* 2 workers$"))
        second.stop()
        start_server(searching, "--port", str(server.port))  # no request has failed meanwhile
        page.get_by_role("link", name="Model").click()
        expect(page.locator("#model")).to_contain_text("searching@")
        expect(page.locator(".facts")).to_contain_text("searching, revision")
