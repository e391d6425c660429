"""A browser that opens pages; on a thread of its own, since Playwright leaves an event loop running on its thread."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run", "--disable-quic"),
)
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
CLIPPED = """() => {
  const cut = [];
  for (const node of document.querySelectorAll("h1, h2, h3, h4, p, li, dt, dd, td, th, button, label, figcaption")) {
    const wide = node.clientWidth && node.scrollWidth > node.clientWidth + 1;
    if (wide && !node.closest(".text")) cut.push(node.textContent);
  }
  for (const words of document.querySelectorAll("svg text")) {
    const [box, plot] = [words.getBoundingClientRect(), words.closest(".plot").getBoundingClientRect()];
    const inside = box.left > plot.left - 15 && box.right < plot.right + 15 && box.bottom < plot.bottom + 3;
    if (!inside) cut.push(words.textContent);
  }
  return cut;
}"""


Look = Callable[..., Any]
"""Takes a page's HTML and a function to call with the page; see `look`."""


@pytest.fixture(scope="session")
def chromium() -> Iterator[tuple[ThreadPoolExecutor, Any]]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no chromium on the PATH")
    with ThreadPoolExecutor(1) as thread:
        playwright = thread.submit(lambda: sync_api.sync_playwright().start()).result()
        launch = playwright.chromium.launch
        browser = thread.submit(lambda: launch(executable_path=program, args=list(QUIET))).result()
        yield thread, browser
        thread.submit(browser.close).result()
        thread.submit(playwright.stop).result()


@pytest.fixture
def look(chromium: tuple[ThreadPoolExecutor, Any], tmp_path: Path) -> Look:
    """Open a page from a file and call a function; check that it logs nothing, loads nothing, and fits its width."""
    thread, browser = chromium
    file = tmp_path / "page.html"

    def open_page(
        html: str, then: Callable[[Any], Any] = lambda page: None, *, width: int = 1280, scheme: str = "light"
    ) -> Any:
        file.write_text(html, encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce")
        page.set_default_timeout(20_000)
        noise: list[str] = []
        requests: list[str] = []
        page.on("console", lambda message: noise.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: noise.append(f"error: {error}"))
        page.on("dialog", lambda dialog: noise.append("a dialog"))

        def answer(route: Any) -> None:
            requests.append(route.request.url)
            if route.request.url == file.as_uri():
                route.continue_()
            else:
                route.abort()

        page.route("**/*", answer)
        try:
            page.goto(file.as_uri())
            wait_for_charts(page)
            result = then(page)
            wait_for_charts(page)
            assert noise == []
            assert requests == [file.as_uri()]
            assert page.evaluate(OVERFLOW) <= 0
            assert page.evaluate(CLIPPED) == []
            assert page.evaluate("window.hurt") is None
            return result
        finally:
            page.close()

    return lambda *args, **kwargs: thread.submit(open_page, *args, **kwargs).result()


def wait_for_charts(page: Any) -> None:
    """Wait until the charts are wait_for_charts: in the second frame after their boxes appear."""
    page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"
    )
