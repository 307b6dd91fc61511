"""Search, Model and Now, in a browser; and every view as it looks, and as a screen reader has it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import mean
from typing import Literal

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.conftest import RunningServer, ServerFactory
from tests.ui.conftest import Opener
from tests.ui.test_files import STATIC

LOOKS: tuple[tuple[int, Literal["light", "dark"]], ...] = ((1280, "light"), (1280, "dark"), (390, "light"))
VIEWS = ("try", "search", "model", "now")
DONE = {"try": ".map table", "search": ".curve .mark", "model": ".chart .mark", "now": ".last dd"}


def measured_ndcg10(server: RunningServer, layers: int, dim: int) -> float:
    """nDCG@10 of the judged queries at a depth on documents at full depth, worked out apart from the page."""
    library = json.loads((STATIC / "data" / "library.json").read_text(encoding="utf-8"))
    documents, queries = library["documents"], library["queries"]

    def embed(texts: list[str], **ask: object) -> np.ndarray:
        return np.array(server.client.post("/embed", json={"inputs": texts, "dim": dim, **ask}).json())

    places = {document["id"]: i for i, document in enumerate(documents)}
    index = embed([f"{d['title']}. {d['text']}" for d in documents], input_type="document")
    found = embed([query["text"] for query in queries], input_type="query", layers=layers) @ index.T
    discounts, each = 1 / np.log2(np.arange(10) + 2), []
    for scores, query in zip(found, queries, strict=True):
        gains = np.zeros(len(documents))
        for name, grade in query["relevant"].items():
            gains[places[name]] = 2**grade - 1
        ranked = gains[np.argsort(-scores, kind="stable")[:10]] @ discounts
        each.append(float(ranked / (np.sort(gains)[::-1][:10] @ discounts)))
    return mean(each)


def test_search_ranks_as_the_vectors_do_and_indexes_once(opened: Opener, server: RunningServer) -> None:
    with opened(server, "#/search?layers=1&dim=16") as seen:
        page = seen.page
        expect(page.locator(".curve .mark")).to_have_count(3)
        expect(page.locator(".curve figcaption")).to_contain_text("what answers a query comes first")
        for layers in (1, 4):
            shown = page.locator(".curve .mark title", has_text=f"{layers} layer").first.text_content() or ""
            assert float(shown.split(": ")[1]) == pytest.approx(measured_ndcg10(server, layers, 16), abs=0.0051)
        expect(page.locator(".ranked").nth(0).locator("li")).to_have_count(10)
        expect(page.locator(".ranked").nth(1).locator("li")).to_have_count(10)
        both = len(page.locator(".joins path").all())
        expect(page.get_by_role("status").last).to_contain_text(f"{both} of the top ten are in")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+ArrowRight")
        expect(page.locator("#list-0")).to_have_text("query at 2 layers, 32 dims")
        page.keyboard.press("/")
        page.keyboard.press("ControlOrMeta+A")
        page.keyboard.type("how is honey made")
        expect(page.get_by_role("combobox", name="judged queries")).to_have_value("")
        expect(page.get_by_role("status").last).not_to_contain_text("this query")
        assert "query=how+is+honey+made" in page.url
        documents = [body for body in seen.bodies() if body.get("input_type") == "document"]
        page.reload()
        expect(page.locator("#list-0")).to_have_text("query at 2 layers, 32 dims")
        expect(page.locator(".curve .mark")).to_have_count(3)
        assert len([body for body in seen.bodies() if body.get("input_type") == "document"]) == len(documents)


def test_the_model_view_shows_the_tables(opened: Opener, server: RunningServer) -> None:
    info = server.client.get("/info").json()
    (name, measured), *_ = info["quality"]["sets"].items()
    with opened(server, "#/model?dim=16") as seen:
        page = seen.page
        expect(page.locator(".chart .mark")).to_have_count(3)
        rows = page.locator(".shades").first.locator("tbody tr")
        for row, layers in enumerate(info["exits"]):
            shown = [float(cell) for cell in rows.nth(row).locator("td").all_inner_texts()]
            scores = [measured["scores"][str(layers)][str(dim)] for dim in info["dims"]]
            assert shown == pytest.approx([100 * s / measured["reference_score"] for s in scores], abs=0.051)
        expect(page.locator(".model-view")).to_contain_text(name)
        expect(page.locator(".facts")).to_contain_text(info["engine"]["reason"])


def test_a_model_with_an_exit_before_its_layers(
    opened: Opener, start_session_server: ServerFactory, searching: Path
) -> None:
    with opened(start_session_server(searching), "#/search?layers=0") as seen:
        page = seen.page
        expect(page.locator(".curve .mark")).to_have_count(3)
        expect(page.locator("#list-0")).to_have_text("query at 0 layers, 32 dims")
        expect(page.locator(".stack .run")).to_have_count(0)
        page.get_by_role("link", name="Model").click()
        page.get_by_role("combobox", name="share of full quality in").select_option("search/queries")
        expect(page.locator(".shades").first.locator("tbody th").first).to_have_text("0")
        assert page.locator(".legend .key").all_inner_texts() == ["similarity", "search"]


def test_now_moves_while_it_is_seen(opened: Opener, server: RunningServer) -> None:
    with opened(server, "#/now") as seen:
        page = seen.page
        expect(page.locator(".plot canvas")).to_have_count(5)
        for _ in range(20):
            server.client.post("/embed?layers=2", json={"inputs": "something to see"})
        depth = page.get_by_role("img", name="depth")
        expect(depth).to_have_attribute("aria-label", re.compile("most often 2 layers, mean 2.0 layers"))
        expect(page.get_by_role("img", name="requests a second")).to_have_attribute(
            "aria-label", re.compile("answered 0")
        )
        expect(page.get_by_role("img", name="in time")).to_have_attribute("aria-label", re.compile("default \u2013"))
        page.get_by_role("link", name="Model").click()
        expect(page.locator(".chart .mark")).to_have_count(3)
        looks = len(seen.asked("/now"))
        page.wait_for_timeout(1500)
        assert len(seen.asked("/now")) == looks


def test_many_texts_and_few_keep_their_place(opened: Opener, server: RunningServer) -> None:
    hint = "Scroll sideways for the rest."
    with opened(server, f"#/try?texts={'%0A'.join(f'text {i}' for i in range(40))}", width=390) as seen:
        page = seen.page
        expect(page.get_by_text(hint).first).to_be_visible()
        field, numbers = page.locator("textarea"), page.locator(".gutter")
        assert field.evaluate("field => field.clientHeight") < 300
        field.evaluate("field => field.scrollTop = 400")
        page.wait_for_function("() => document.querySelector('.gutter').scrollTop === 400")
        assert numbers.evaluate("numbers => numbers.clientHeight") == field.evaluate("field => field.clientHeight")
        page.set_viewport_size({"width": 1280, "height": 900})
        field.fill("one\ntwo\nthree")
        expect(page.locator(".map tbody tr")).to_have_count(9)
        expect(page.get_by_text(hint).first).to_be_hidden()
        heights = page.locator(".map caption").evaluate_all("all => all.map(caption => caption.clientHeight)")
        assert max(heights) < 40, "a caption stands on one line"
        keys = page.locator("footer kbd").first
        expect(keys).to_be_visible()
        for view in ("model", "now"):
            page.evaluate(f"location.hash = '#/{view}'")
            expect(page.locator(DONE[view]).first).to_be_visible()
            expect(keys).to_be_hidden()


def test_every_view_reads_well(opened: Opener, server: RunningServer, shots: Path | None) -> None:
    with opened(server, "#/try") as seen:
        page = seen.page
        for view in VIEWS:
            page.evaluate(f"location.hash = '#/{view}'")
            expect(page.locator(DONE[view]).first).to_be_visible()
            for width, theme in LOOKS:
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme=theme, reduced_motion="reduce")
                if shots:
                    page.screenshot(path=shots / f"{view}-{theme}-{width}.png", full_page=True)
                assert page.evaluate("document.documentElement.scrollWidth") == width, (view, theme)
                assert serious(page) == [], (view, theme, width)


def serious(page: Page) -> list[tuple[str, str, str]]:
    """What axe-core finds that keeps somebody from reading or using the page: rule, element, what is wrong."""
    return [
        (rule["id"], node["html"][:160], node["failureSummary"])
        for rule in Axe().run(page).response["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
