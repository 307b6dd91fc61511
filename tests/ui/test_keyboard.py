"""The explorer without a mouse: everything is reached by Tab, in the order of reading, and shows that it is reached."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import RunningServer
from tests.ui.conftest import Opener
from tests.ui.test_views import DONE

# What has the focus: its name, where it is, and whether it, or the frame around it, is marked.
FOCUSED = """() => {
  const at = document.activeElement, box = at.getBoundingClientRect();
  const marked = (node) => node && getComputedStyle(node).outlineStyle !== "none";
  return {
    name: `${at.tagName} ${at.id || at.getAttribute("aria-label") || at.textContent}`.slice(0, 80),
    inside: at !== document.body && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
    marked: marked(at) || marked(at.closest(".texts")),
  };
}"""
CAN_BE_USED = "main :is(a[href], button, input, select, textarea, summary):visible"


def stops(page: Page) -> list[str]:
    """Names of what Tab leads to, from the first on the page to the last."""
    page.locator(".skip").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    found: list[str] = []
    while not found or found[-1] != "A /metrics":
        assert len(found) < 200, found
        focused = page.evaluate(FOCUSED)
        assert focused["inside"], (focused, found)
        assert focused["marked"], (focused, found)
        found.append(focused["name"])
        page.keyboard.press("Tab")
    return found


@pytest.mark.parametrize("width", [1280, 390])
def test_every_view_is_reached_by_tab_and_shows_it(opened: Opener, server: RunningServer, width: int) -> None:
    with opened(server, "#/try", width=width) as seen:
        page = seen.page
        for view in DONE:
            page.evaluate(f"location.hash = '#/{view}'")
            expect(page.locator(DONE[view]).first).to_be_visible()
            if view == "search":
                expect(page.locator(".ranked").nth(1).locator("li")).to_have_count(10)
            found = stops(page)
            assert found[0] == "A Skip to the content"
            assert len(found) >= page.locator(CAN_BE_USED).count() + 10, (view, found)  # and those of head and foot


def test_texts_and_numbers_that_a_mouse_would_point_at_open_by_keyboard(opened: Opener, server: RunningServer) -> None:
    with opened(server, "#/search") as seen:
        page = seen.page
        expect(page.locator(".ranked").nth(1).locator("li")).to_have_count(10)
        first = page.locator(".ranked li").first
        first.locator("summary").focus()
        page.keyboard.press("Enter")
        expect(first.locator("p")).to_be_visible()
        for view, columns in (("search", 2), ("model", 3)):
            page.evaluate(f"location.hash = '#/{view}'")
            expect(page.locator(DONE[view])).to_have_count(3)
            page.locator(".numbers summary").focus()
            page.keyboard.press("Enter")
            rows = page.locator(".numbers tbody tr")
            expect(rows).to_have_count(3)
            expect(rows.first.locator("th, td")).to_have_count(columns)
