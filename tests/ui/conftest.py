"""A real browser on a real server: Chromium without a screen, driven by Playwright; what it complains of is kept."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from tests.conftest import RunningServer

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Seen:
    """A page, what it asked for, and what the browser complained of."""

    page: Page
    requests: list[Request] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> set[str]:
        """Every host that was asked for something."""
        return {urlsplit(request.url).hostname or "" for request in self.requests if request.url.startswith("http")}

    def asked(self, path: str) -> list[Request]:
        """The requests of a path."""
        return [request for request in self.requests if urlsplit(request.url).path == path]

    def bodies(self) -> list[Any]:
        """What was posted to be embedded."""
        return [request.post_data_json for request in self.asked("/embed") if request.method == "POST"]


Opener = Callable[..., Any]
expect.set_options(timeout=20_000)  # on a busy machine the browser and the server share what is left


@pytest.fixture(scope="package")  # Playwright keeps a loop running in this thread: no test elsewhere could run one
def browser() -> Iterator[Browser]:
    """Chromium, as the system has it: Playwright's own cannot be fetched everywhere."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Browser) -> Opener:
    """Opens the explorer in a tab of its own: ``with opened(server, "#/try", width=390) as seen``.

    At its end nothing may have been complained of but what ``expected`` names, and nobody else been asked.
    """

    @contextmanager
    def open_page(
        server: RunningServer | str, view: str = "", *, width: int = 1280, theme: Any = "light", expected: str = ""
    ) -> Iterator[Seen]:
        url = server if isinstance(server, str) else server.url
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=theme,
            permissions=["clipboard-read", "clipboard-write"],
        )
        page = context.new_page()
        page.set_default_timeout(20_000)
        seen = Seen(page)
        page.on("request", lambda request: seen.requests.append(request))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on(
            "console",
            lambda message: seen.complaints.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.goto(f"{url}/ui{view}")
        yield seen
        context.close()
        assert [text for text in seen.complaints if not (expected and re.search(expected, text))] == []
        assert seen.hosts == {"127.0.0.1"}

    return open_page


@pytest.fixture
def shots() -> Path | None:
    """Where screenshots go, for whoever names STRATA_SCREENSHOTS to look at them."""
    named = os.environ.get("STRATA_SCREENSHOTS")
    if not named:
        return None
    Path(named).mkdir(parents=True, exist_ok=True)
    return Path(named)
