"""A real browser over the page: Debian's chromium without a window, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from consumer.page.app import bundle_folder

REPOSITORY: Final = Path(__file__).parents[2]
SCREENSHOTS: Final = REPOSITORY / "build" / "page-screenshots"
"""What a run of the browser tests leaves to be looked at."""
AXE: Final = REPOSITORY / "consumer" / "page" / "browser" / "node_modules" / "axe-core" / "axe.min.js"
DESKTOP: Final[ViewportSize] = {"width": 1280, "height": 860}
PHONE: Final[ViewportSize] = {"width": 390, "height": 844}


def chromium() -> str:
    """Return the path of chromium; skip where it, or the bundle, is missing (with ``REQUIRE_BROWSER=1`` that fails)."""
    found = shutil.which("chromium")
    missing = []
    if found is None:
        missing.append("chromium (Debian: chromium)")
    if not (bundle_folder() / "index.html").is_file():
        missing.append("the bundle (make page)")
    if not AXE.is_file():
        missing.append("axe-core (make page)")
    if missing:
        message = f"no browser over the page, missing: {', '.join(missing)}"
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail(f"REQUIRE_BROWSER=1, but: {message}")
        pytest.skip(message)
    assert found is not None
    return found


@contextmanager
def running_browser() -> Iterator[Browser]:
    """Run chromium; it ends with the context."""
    path = chromium()
    with sync_playwright() as playwright:
        # The sandbox needs rights that root in a container lacks; only our own page is opened.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, url: str, *, faults_expected: bool = False, **context: Any) -> Iterator[Page]:
    """Open a tab with a profile of its own.

    Parameters
    ----------
    faults_expected
        Whether requests may fail: a test that restarts the service sees that in the browser's console.

    Raises
    ------
    AssertionError
        When a script failed, or the console has an error, such as a breach of the Content-Security-Policy.
    """
    own = browser.new_context(**{"viewport": DESKTOP, **context})
    own.set_default_timeout(20_000)
    errors: list[str] = []
    page = own.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    if not faults_expected:
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    try:
        page.goto(url)
        yield page
    finally:
        own.close()
    if errors:
        raise AssertionError(f"the browser complains: {errors}")


def serious_faults(page: Page) -> list[str]:
    """Return what axe-core finds that is serious or critical, with the elements."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    violations = page.evaluate("() => axe.run().then((result) => result.violations)")
    return [
        f"{each['id']}: {each['help']}: {[node['html'][:120] for node in each['nodes'][:3]]}"
        for each in violations
        if each["impact"] in ("serious", "critical")
    ]


def keep_screenshot(page: Page, name: str) -> None:
    """Keep a picture of the whole page in `SCREENSHOTS`."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
