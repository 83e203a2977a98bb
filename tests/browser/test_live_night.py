"""A simulated night before a browser's eyes, on the real service: `make page-check`."""

from collections.abc import Iterator
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import LiveService
from tests.support.browsers import DESKTOP, PHONE, keep_screenshot, opened
from tests.support.exposures import exposure, run_of
from tests.support.service import Wire, raws_of

pytestmark = pytest.mark.long

EXPOSURES: Final = 90
SETTLED_MS: Final = 30_000
LOOKS: Final[dict[str, dict[str, Any]]] = {
    "desktop": {"viewport": DESKTOP, "color_scheme": "light"},
    "phone": {"viewport": PHONE, "color_scheme": "light", "has_touch": True, "is_mobile": True},
    "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
}


@pytest.fixture(scope="module")
def night(service: LiveService) -> LiveService:
    """Give the service with a night of LSSTCam."""
    service.send_night(instrument="LSSTCam", exposures=EXPOSURES, seed=3)
    service.consumer.wait_until(
        lambda: service.count("visit") > EXPOSURES // 2 and service.count("open_group") == 0,
        what="the night",
        timeout_s=120,
    )
    return service


@pytest.fixture
def sky(browser: Browser, night: LiveService) -> Iterator[Page]:
    """Give an open map, live."""
    with opened(browser, f"{night.url}/#/sky") as page:
        expect(page.get_by_role("status")).to_have_text("Live")
        expect(page.locator(".footprint").first).to_be_visible()
        yield page


def test_a_click_shows_detectors(sky: Page) -> None:
    footprint = sky.locator(".footprint").last
    visit = footprint.get_attribute("data-visit")
    footprint.hover()
    expect(sky.locator(".mapbox .hovered")).to_contain_text(str(visit))
    footprint.click()
    panel = sky.get_by_role("region", name="Chosen visit")
    expect(panel.get_by_role("heading")).to_contain_text(str(visit))
    expect(panel.locator(".detector")).to_have_count(205)
    expect(panel.locator(".legend")).to_contain_text("arrived")


def test_the_keyboard_reaches_a_visit_and_moves_the_map(sky: Page) -> None:
    sky.get_by_role("button", name="Tangent plane").press("Enter")
    before = sky.locator(".footprint").last.get_attribute("d")
    assert before
    sky.locator("svg.map").press("ArrowRight")
    expect(sky.locator(".footprint").last).not_to_have_attribute("d", before)
    link = sky.locator("tbody th a").first
    visit = link.inner_text()
    link.press("Enter")
    expect(sky.get_by_role("region", name="Chosen visit")).to_contain_text(visit)


def test_right_ascension_grows_to_the_left(sky: Page) -> None:
    labels = {text: sky.locator("svg.map text", has_text=text).bounding_box() for text in ("4h", "20h")}
    assert labels["4h"] is not None
    assert labels["20h"] is not None
    assert labels["4h"]["x"] < labels["20h"]["x"]


def test_a_replay_begins_with_few_and_ends_with_all(sky: Page) -> None:
    whole = sky.locator(".footprint").count()
    slider = sky.get_by_role("slider")
    slider.focus()
    slider.press("Home")
    expect(sky.locator(".footprint")).to_have_count(1)
    slider.press("End")
    expect(sky.locator(".footprint")).to_have_count(whole)
    sky.get_by_role("button", name="Replay the night").click()
    expect(sky.get_by_role("button", name="Pause")).to_be_visible()
    expect(sky.locator(".footprint")).not_to_have_count(whole)
    expect(sky.locator(".footprint").nth(5)).to_be_attached(timeout=SETTLED_MS)
    assert sky.locator(".footprint").count() < whole


def test_dead_letters_are_counted_as_they_come(browser: Browser, night: LiveService) -> None:
    with opened(browser, f"{night.url}/#/trouble") as page:
        shown = page.get_by_role("heading", name="Dead letters").locator(".count")
        expect(shown).to_be_visible()
        before = int(shown.inner_text())
        night.send([Wire(b"no event")])
        expect(shown).to_have_text(str(before + 1), timeout=5000)
        expect(page.locator(".reason").first).to_be_visible()


def test_a_group_closes_before_ones_eyes(browser: Browser, night: LiveService) -> None:
    first, second = run_of(60, 61)
    with opened(browser, f"{night.url}/#/waiting") as page:
        night.send(raws_of([first], range(9)))
        row = page.locator(".scrolls tbody tr")
        expect(row).to_have_count(1, timeout=5000)
        expect(row).to_contain_text("seq_num 61")
        keep_screenshot(page, "desktop-waiting-open")
        night.send(raws_of([second], range(9)))
        expect(row).to_have_count(0, timeout=5000)


def test_the_page_survives_restarts(browser: Browser, night: LiveService) -> None:
    with opened(browser, f"{night.url}/#/sky", faults_expected=True) as page:
        status = page.get_by_role("status")
        expect(status).to_have_text("Live")
        night.postgres.stop()
        expect(status).to_have_text("Stale", timeout=SETTLED_MS)
        expect(page.get_by_role("alert").first).to_contain_text("cannot be asked")
        keep_screenshot(page, "desktop-stale")
        night.postgres.start()
        expect(status).to_have_text("Live", timeout=SETTLED_MS)
        night.page.terminate()
        expect(status).to_have_text("No connection", timeout=SETTLED_MS)
        expect(page.locator(".footprint").first).to_be_visible()
        night.page.start()
        expect(status).to_have_text("Live", timeout=SETTLED_MS)
        new = exposure(70, tracking_ra=200.0, tracking_dec=-40.0)
        night.consumer.wait_ready(timeout_s=60)
        night.send(raws_of([new], range(9)))
        page.locator(f'[data-visit="{new.id}"]').wait_for(timeout=SETTLED_MS)


def test_the_first_paint_takes_less_than_a_second(browser: Browser, night: LiveService) -> None:
    with opened(browser, night.url) as page:
        expect(page.locator(".figures")).to_be_visible()
        painted_ms = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        assert painted_ms < 1000


@pytest.mark.parametrize("look", LOOKS)
def test_what_it_looks_like(browser: Browser, night: LiveService, look: str) -> None:
    with opened(browser, night.url, **LOOKS[look]) as page:
        expect(page.locator(".figures")).to_be_visible()
        keep_screenshot(page, f"{look}-tonight")
        page.goto(f"{night.url}/#/sky")
        expect(page.locator(".footprint").first).to_be_visible()
        keep_screenshot(page, f"{look}-sky")
        page.get_by_role("button", name="Tangent plane").click()
        page.locator("tbody th a").nth(1).click()
        expect(page.locator(".detector").first).to_be_visible()
        keep_screenshot(page, f"{look}-tangent")
        visit = page.get_by_role("region", name="Chosen visit").get_by_role("link").inner_text()
        for name, shown in {
            "waiting": "h1",
            "trouble": ".good, .problems",
            f"visit/LSSTCam/{visit}": ".detector",
            f"exposure/{visit}": ".timeline",
            f"search/{visit}": "table",
        }.items():
            page.goto(f"{night.url}/#/{name}")
            expect(page.locator(shown).first).to_be_visible()
            keep_screenshot(page, f"{look}-{name.partition('/')[0]}")
        # Nothing is wider than the screen: a phone scrolls down, and tables by themselves.
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
