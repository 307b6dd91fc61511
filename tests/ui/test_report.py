"""A load test's report on a phone: its pictures are moved in their frame, and what is written in them can be read."""

from __future__ import annotations

import numpy as np
from playwright.sync_api import Browser

from strata.loadtest.outcomes import Requests
from strata.loadtest.page import page
from strata.loadtest.plots import draw_over_time

READABLE_PX = 10


def test_a_picture_can_be_read_at_phone_width(browser: Browser) -> None:
    count = 40
    times = np.linspace(0, 3.9, count)
    requests = Requests(
        due=times,
        lag=np.zeros(count),
        latency=np.full(count, 0.01),
        tier=np.zeros(count, dtype=np.int64),
        deadline=np.full(count, 0.1),
        status=np.full(count, 200),
        layers=np.full(count, 6.0),
        quality=np.full(count, 0.98),
    )
    picture = draw_over_time({"elastic": requests}, 4.0)
    content = {"facts": {}, "machine": {"cpu": "one", "cores": 2}, "options": {}, "began": "today"}
    tab = browser.new_page(viewport={"width": 390, "height": 900})
    tab.set_content(page("slo", content, [], {}, {"over time": picture}))
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    frame = tab.locator("figure")
    assert frame.evaluate("frame => frame.scrollWidth") > 390
    scale = frame.locator("svg").evaluate("svg => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width")
    sizes = frame.locator("text").evaluate_all(
        "texts => texts.map(text => parseFloat(getComputedStyle(text).fontSize))"
    )
    assert scale * min(sizes) >= READABLE_PX
    frame.press("ArrowRight")  # the frame itself is reached by keyboard
    tab.wait_for_function("document.querySelector('figure').scrollLeft > 0")
    tab.close()
